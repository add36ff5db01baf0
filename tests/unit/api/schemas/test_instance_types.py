"""Instance types: what real LXD 5.0.2 makes of the same."""

import pytest

from lxdpy.api.schemas.instance_types import limits
from lxdpy.api.schemas.instances import InstancesPost, new_copy, new_instance
from lxdpy.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("c1-m1", {"limits.cpu": "1", "limits.memory": "1024MB"}),
        ("m2", {"limits.memory": "2048MB"}),
        ("c2", {"limits.cpu": "2"}),
        ("c0.5-m1", {"limits.cpu": "1", "limits.cpu.allowance": "50%", "limits.memory": "1024MB"}),
    ],
)
def test_limits(name: str, expected: dict[str, str]) -> None:
    assert limits(name) == expected


@pytest.mark.parametrize("name", ["foo", "t2.micro", "-", "c1-", "-m1", "c", "m", "c0", "c1-m1\n", "aws:t2.micro"])
def test_unknown(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="Unknown instance type"):
        limits(name)


def test_what_the_request_says_wins() -> None:
    body = InstancesPost.model_validate(
        {
            "name": "a",
            "source": {"type": "image", "alias": "x", "source": "b"},
            "instance_type": "c1-m1",
            "config": {"limits.memory": "1MiB"},
        }
    )
    expected = {"limits.cpu": "1", "limits.memory": "1MiB"}
    assert new_instance(body, "default").settings.config == expected
    assert new_copy(body, "default").config == expected
