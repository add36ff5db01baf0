"""Names of images: found, given, changed, taken away."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping

from lxdpy.db import images as table
from lxdpy.db.connection import Database
from lxdpy.db.images import AliasRecord
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.services.events import Announce
from lxdpy.services.images.source import ImageSource
from lxdpy.services.uninterrupted import uninterrupted

_PATH = "/1.0/images/aliases/"


class Aliases:
    """Every alias. `changing` is held while images or aliases change; `changed` is awaited, with it, after each."""

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
        self._aliases: dict[str, AliasRecord] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._aliases

    def all(self) -> list[AliasRecord]:
        """Every alias by name."""
        return [self._aliases[name] for name in sorted(self._aliases)]

    def of(self, fingerprint: str) -> list[AliasRecord]:
        """The aliases of one image by name."""
        return [alias for alias in self.all() if alias.fingerprint == fingerprint]

    def exact(self, name: str) -> AliasRecord | None:
        """The alias of exactly this name."""
        return self._aliases.get(name)

    def get(self, name: str) -> AliasRecord:
        """An alias; image references are found in any spelling. Raises NotFoundError."""
        for candidate in (name, self._familiar(name)):
            if candidate in self._aliases:
                return self._aliases[candidate]
        raise NotFoundError(f'Image alias "{name}" not found')

    # ---- changing

    async def add(self, name: str, target: Callable[[], str], description: str) -> AliasRecord:
        """Name an image: `target()` gives its fingerprint, and may raise. Raises ConflictError when the name is taken,
        InvalidRequestError."""
        check(name)
        return await uninterrupted(self._add(name, target, description))

    async def _add(self, name: str, target: Callable[[], str], description: str) -> AliasRecord:
        async with self._changing:
            if name in self._aliases:
                raise ConflictError(f'Image alias "{name}" already exists')
            alias = AliasRecord(name, target(), description)
            await self._database.run(lambda db: table.put_alias(db, alias))
            self._aliases[name] = alias
            await self._changed()
        self._announce("image-alias-created", _PATH + name)
        return alias

    async def update(self, name: str, change: Callable[[AliasRecord], AliasRecord]) -> None:
        """Replace target and description; `change` is asked while nothing else changes the alias, and may raise.

        Raises NotFoundError.
        """
        await uninterrupted(self._update(name, change))

    async def _update(self, name: str, change: Callable[[AliasRecord], AliasRecord]) -> None:
        async with self._changing:
            alias = change(self.get(name))
            await self._database.run(lambda db: table.put_alias(db, alias))
            self._aliases[alias.name] = alias
            await self._changed()
        self._announce("image-alias-updated", _PATH + alias.name)

    async def rename(self, name: str, new_name: str) -> None:
        """Give it another name. Raises NotFoundError, ConflictError when that is taken, InvalidRequestError."""
        check(new_name)
        await uninterrupted(self._rename(name, new_name))

    async def _rename(self, name: str, new_name: str) -> None:
        async with self._changing:
            old = self.get(name)
            if new_name in self._aliases:
                raise ConflictError(f'Image alias "{new_name}" already exists')
            alias = dataclasses.replace(old, name=new_name)
            await self._database.run(lambda db: table.rename_alias(db, old.name, new_name))
            del self._aliases[old.name]
            self._aliases[new_name] = alias
            await self._changed()
        self._announce("image-alias-renamed", _PATH + new_name, {"old_name": old.name})

    async def delete(self, name: str) -> None:
        """Remove a name. Raises NotFoundError."""
        await uninterrupted(self._delete(name))

    async def _delete(self, name: str) -> None:
        async with self._changing:
            alias = self.get(name)
            await self._database.run(lambda db: table.delete_alias(db, alias.name))
            del self._aliases[alias.name]
            await self._changed()
        self._announce("image-alias-deleted", _PATH + alias.name)

    # ---- what whoever holds `changing` has written to the database

    def put(self, aliases: Iterable[AliasRecord]) -> None:
        """Take note of new and changed ones."""
        self._aliases.update({alias.name: alias for alias in aliases})

    def forget(self, fingerprint: str) -> None:
        """Take note that an image is gone, and its names with it."""
        for alias in self.of(fingerprint):
            del self._aliases[alias.name]

    def check_free(self, names: Mapping[str, str]) -> None:
        """Raises ConflictError, InvalidRequestError when an image can't get all these names."""
        for name in names:
            check(name)
            if name in self._aliases:
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
