"""Names of instances below the API, and paths in it."""

import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.project import in_project, instance_url, plain_name, project_of, project_of_url, qualify, split


@pytest.mark.parametrize(
    ("project", "name", "below", "url"),
    [
        ("default", "web", "web", "/1.0/instances/web"),
        ("p1", "web", "p1_web", "/1.0/instances/web?project=p1"),
        ("p1", "", "p1_", "/1.0/instances/?project=p1"),
    ],
)
def test_there_and_back(project: str, name: str, below: str, url: str) -> None:
    assert qualify(project, name) == below
    assert split(below) == (project, name) == (project_of(below), plain_name(below))
    assert instance_url(below) == url
    assert project_of_url(url) == project


def test_a_name_cannot_pose_as_one_of_another_project() -> None:
    with pytest.raises(InvalidRequestError):
        qualify("default", "p1_web")
    with pytest.raises(InvalidRequestError):
        qualify("p1", "p2_web")


def test_paths() -> None:
    assert instance_url("p1_web", "snapshots", "a_b") == "/1.0/instances/web/snapshots/a_b?project=p1"
    assert instance_url("web", "logs", "x", prefix="/1.0/containers") == "/1.0/containers/web/logs/x"
    assert in_project("/1.0/profiles/x", "a b") == "/1.0/profiles/x?project=a%20b"
    assert project_of_url("/1.0/profiles/x?project=a%20b") == "a b"
    assert project_of_url("/1.0/profiles/x") == "default"
