"""`filter=` as LXD reads it."""

import pytest

from lxdpy.api import filtering
from lxdpy.errors import InvalidRequestError

ITEMS = [
    {"name": "web", "status": "Running", "config": {"limits.cpu": "2", "user": {"a.b": "x"}}, "ephemeral": False},
    {"name": "db one", "status": "Stopped", "config": {}, "ephemeral": True, "pid": 7},
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["web", "db one"]),
        (None, ["web", "db one"]),
        ("name eq web", ["web"]),
        ("status eq running", ["web"]),
        ("status ne running", ["db one"]),
        ("not status eq running", ["db one"]),
        ('name eq "db one"', ["db one"]),
        ("config.limits.cpu eq 2", ["web"]),
        ("config.user.a.b eq x", ["web"]),
        ("config.limits.memory eq 2", []),
        ("ephemeral eq true", ["db one"]),
        ("pid eq 7", ["db one"]),
        ("name eq web and status eq stopped", []),
        ("name eq web or status eq stopped", ["web", "db one"]),
        ("name eq web or name eq x and ephemeral eq true", []),
        ("name.more eq web", []),
    ],
)
def test_filter(text: str | None, names: list[str]) -> None:
    assert [item["name"] for item in filtering.select(filtering.parse(text), ITEMS)] == names


@pytest.mark.parametrize(
    "text", ["name", "name eq", "name like web", 'name eq "web', "name eq web and", "name eq web x y eq z", "not"]
)
def test_invalid(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid filter"):
        filtering.parse(text)
