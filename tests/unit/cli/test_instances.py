"""What the instance commands say beyond the daemon's own words."""

import asyncio
from typing import Any, cast

import pytest

from lxdpy.cli import instances
from lxdpy.client import AsyncClient, LXDError, NotFound


class FakeClient:
    """A daemon that has the image `bb` and reaches no registry; it stands for its own collections."""

    def __init__(self) -> None:
        self.instances = self.images = self

    async def begin_create(self, *arguments: object, **options: object) -> Any:
        raise LXDError(400, "Cannot reach the registry")

    async def get(self, name: str) -> str:
        if name != "bb":
            raise NotFound(404, f'Image "{name}" not found')
        return name


@pytest.mark.parametrize(
    ("image", "notes"),
    [("bb", ["An image here has that name: local:bb"]), ("nope", []), ("bb:1", []), ("host.example/bb", [])],
)
def test_an_alias_taken_for_a_reference_is_pointed_at(image: str, notes: list[str]) -> None:
    client = cast(AsyncClient, FakeClient())
    with pytest.raises(LXDError) as caught:
        asyncio.run(instances.create(client, image, None, server=None, options={}))
    assert getattr(caught.value, "__notes__", []) == notes
