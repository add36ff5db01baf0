"""What instances keep of their images, as clients read and change it."""

import asyncio
from collections.abc import Callable

from lxdpy.image_metadata import ImageMetadata
from lxdpy.project import instance_url
from lxdpy.services.events import Announce
from lxdpy.services.instances import metadata
from lxdpy.services.instances.directory import InstanceDirectories
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.uninterrupted import uninterrupted

_IMAGE = "image."


class InstanceMetadata:
    """metadata.yaml and templates of every instance. Names as everywhere: NotFoundError for one that is not there."""

    def __init__(self, roster: Roster, directories: InstanceDirectories, announce: Announce) -> None:
        self._roster = roster
        self._directories = directories
        self._announce = announce

    async def get(self, name: str) -> ImageMetadata:
        """An instance's metadata; of one that keeps none, because its image is OCI's, what can be said of it.

        Raises NotFoundError, InvalidRequestError for a damaged one.
        """
        return await self._get(self._roster.get(name))

    async def update(self, name: str, wanted: Callable[[ImageMetadata], ImageMetadata]) -> None:
        """Replace an instance's metadata; templates that it names are due from the next start on.

        `wanted` is asked while nobody else changes the instance; what it raises is raised. Raises NotFoundError,
        InvalidRequestError.
        """
        async with self._roster.held(name) as runtime:
            new = wanted(await self._get(runtime))
            await uninterrupted(asyncio.to_thread(metadata.write, self._directories.path(name), new))
        self._announce("instance-metadata-updated", instance_url(name, "metadata"))

    async def templates(self, name: str) -> list[str]:
        """Names of an instance's templates. Raises NotFoundError."""
        self._roster.get(name)
        return await asyncio.to_thread(metadata.templates, self._directories.path(name))

    async def template(self, name: str, template: str) -> bytes:
        """One of them. Raises NotFoundError, InvalidRequestError."""
        self._roster.get(name)
        return await asyncio.to_thread(metadata.read_template, self._directories.path(name), template)

    async def write_template(self, name: str, template: str, data: bytes) -> None:
        """Make or replace one. Raises NotFoundError, InvalidRequestError."""
        async with self._roster.held(name):
            directory = self._directories.path(name)
            await uninterrupted(asyncio.to_thread(metadata.write_template, directory, template, data))
        self._announce("instance-metadata-template-created", instance_url(name, "metadata", "templates"))

    async def delete_template(self, name: str, template: str) -> None:
        """Delete one. Raises NotFoundError, InvalidRequestError."""
        async with self._roster.held(name):
            await asyncio.to_thread(metadata.delete_template, self._directories.path(name), template)
        self._announce("instance-metadata-template-deleted", instance_url(name, "metadata", "templates"))

    async def _get(self, runtime: Runtime) -> ImageMetadata:
        record = runtime.record
        found = await asyncio.to_thread(metadata.read, self._directories.path(record.name))
        return found or ImageMetadata(
            architecture=record.architecture,
            creation_date=int(record.created_at),
            properties={
                key.removeprefix(_IMAGE): value for key, value in record.config.items() if key.startswith(_IMAGE)
            },
        )
