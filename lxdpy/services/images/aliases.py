"""Names of images: found, given, changed, taken away."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping

from lxdpy.db import images as table
from lxdpy.db.connection import Database
from lxdpy.db.images import AliasRecord
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.project import DEFAULT, in_project
from lxdpy.services.events import Announce
from lxdpy.services.images.source import ImageSource
from lxdpy.services.uninterrupted import uninterrupted


def path(alias: AliasRecord) -> str:
    """An alias' path in the API."""
    return in_project(f"/1.0/images/aliases/{alias.name}", alias.project)


class Aliases:
    """Every alias of every project.

    `changing` is held while images or aliases change; `changed` is awaited, with it, after each.
    """

    def __init__(
        self,
        database: Database,
        default_registry: str,
        announce: Announce,
        changing: asyncio.Lock,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._default_registry = default_registry
        self._announce = announce
        self._changing = changing
        self._changed = changed
        self._aliases: dict[tuple[str, str], AliasRecord] = {}

    def all(self, project: str = DEFAULT) -> list[AliasRecord]:
        """Every alias of a project by name."""
        return [self._aliases[key] for key in sorted(self._aliases) if key[0] == project]

    def of(self, fingerprint: str, project: str | None = DEFAULT) -> list[AliasRecord]:
        """The aliases of one image by name, in one project or in all."""
        found = [self._aliases[key] for key in sorted(self._aliases) if project in (None, key[0])]
        return [alias for alias in found if alias.fingerprint == fingerprint]

    def exact(self, name: str, project: str = DEFAULT) -> AliasRecord | None:
        """The alias of exactly this name."""
        return self._aliases.get((project, name))

    def get(self, name: str, project: str = DEFAULT) -> AliasRecord:
        """An alias; image references are found in any spelling. Raises NotFoundError."""
        for candidate in (name, self._familiar(name)):
            if found := self.exact(candidate, project):
                return found
        raise NotFoundError(f'Image alias "{name}" not found')

    # ---- changing

    async def add(self, name: str, target: Callable[[], str], description: str, project: str = DEFAULT) -> AliasRecord:
        """Name an image: `target()` gives its fingerprint, and may raise. Raises ConflictError when the name is taken,
        InvalidRequestError."""
        check(name)
        return await uninterrupted(self._add(name, target, description, project))

    async def _add(self, name: str, target: Callable[[], str], description: str, project: str) -> AliasRecord:
        async with self._changing:
            if self.exact(name, project):
                raise ConflictError(f'Image alias "{name}" already exists')
            alias = AliasRecord(name, target(), description, project)
            await self._database.run(lambda db: table.put_alias(db, alias))
            self.put([alias])
            await self._changed()
        self._announce("image-alias-created", path(alias))
        return alias

    async def update(self, name: str, change: Callable[[AliasRecord], AliasRecord], project: str = DEFAULT) -> None:
        """Replace target and description; `change` is asked while nothing else changes the alias, and may raise.

        Raises NotFoundError.
        """
        await uninterrupted(self._update(name, change, project))

    async def _update(self, name: str, change: Callable[[AliasRecord], AliasRecord], project: str) -> None:
        async with self._changing:
            alias = change(self.get(name, project))
            await self._database.run(lambda db: table.put_alias(db, alias))
            self.put([alias])
            await self._changed()
        self._announce("image-alias-updated", path(alias))

    async def rename(self, name: str, new_name: str, project: str = DEFAULT) -> None:
        """Give it another name. Raises NotFoundError, ConflictError when that is taken, InvalidRequestError."""
        check(new_name)
        await uninterrupted(self._rename(name, new_name, project))

    async def _rename(self, name: str, new_name: str, project: str) -> None:
        async with self._changing:
            old = self.get(name, project)
            if self.exact(new_name, project):
                raise ConflictError(f'Image alias "{new_name}" already exists')
            alias = dataclasses.replace(old, name=new_name)
            await self._database.run(lambda db: table.rename_alias(db, project, old.name, new_name))
            del self._aliases[project, old.name]
            self.put([alias])
            await self._changed()
        self._announce("image-alias-renamed", path(alias), {"old_name": old.name})

    async def delete(self, name: str, project: str = DEFAULT) -> None:
        """Remove a name. Raises NotFoundError."""
        await uninterrupted(self._delete(name, project))

    async def _delete(self, name: str, project: str) -> None:
        async with self._changing:
            alias = self.get(name, project)
            await self._database.run(lambda db: table.delete_alias(db, project, alias.name))
            del self._aliases[project, alias.name]
            await self._changed()
        self._announce("image-alias-deleted", path(alias))

    # ---- what whoever holds `changing` has written to the database

    def put(self, aliases: Iterable[AliasRecord]) -> None:
        """Take note of new and changed ones."""
        self._aliases.update({(alias.project, alias.name): alias for alias in aliases})

    def forget(self, fingerprint: str, project: str | None = None) -> None:
        """Take note that an image is gone from a project, or altogether, and its names with it."""
        for alias in self.of(fingerprint, project):
            del self._aliases[alias.project, alias.name]

    def check_free(self, names: Mapping[str, str], project: str) -> None:
        """Raises ConflictError, InvalidRequestError when an image can't get all these names."""
        for name in names:
            check(name)
            if self.exact(name, project):
                raise ConflictError(f"Alias already exists: {name}")

    def _familiar(self, name: str) -> str:
        try:
            return ImageSource(alias=name).reference(self._default_registry).familiar
        except InvalidRequestError:
            return name


def check(name: str) -> None:
    """Raises InvalidRequestError for what is no name."""
    if not name or "\n" in name or "\0" in name:
        raise InvalidRequestError(f"Invalid image alias {name!r:.100}")
