"""Backups of whatever there are backups of: their files, in one directory; and their records, found by whose they are.

    DIRECTORY/HEX      the file; the database knows whose it is

What is in them, and the rows, are for services.instances.backups and services.storage.backups.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Generic, Protocol, TypeVar

from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, WorkerError

logger = logging.getLogger(__name__)

_EXPIRY_CHECK_S = 60.0
_AUTOMATIC = re.compile(r"backup(\d{1,9})\Z")


class BackupRow(Protocol):
    """What rows of backups have in common."""

    @property
    def name(self) -> str:
        """Its name, among those of what it is of."""

    @property
    def file(self) -> str:
        """The name of its file."""

    @property
    def expires_at(self) -> float:
        """0: never."""


Row = TypeVar("Row", bound=BackupRow)
Owner = TypeVar("Owner", bound=Hashable)


class BackupFiles(Generic[Row, Owner]):
    """The backups of all owners of one kind."""

    def __init__(
        self, directory: Path, owner_of: Callable[[Row], Owner], find_owner: Callable[[Owner], object], missing: str
    ) -> None:
        """`find_owner` raises NotFoundError for one that is not there; `missing` says that a backup is not."""
        self._directory = directory
        self._owner_of = owner_of
        self._find_owner = find_owner
        self._missing = missing
        self._rows: dict[str, Row] = {}
        """By file."""
        self._making: set[tuple[Owner, str]] = set()

    async def load(self, rows: Iterable[Row]) -> None:
        """Take the rows of the database, and remove files that it does not know. Raises WorkerError."""
        self._rows = {row.file: row for row in rows}
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            for name in os.listdir(self._directory):
                if name not in self._rows:
                    (self._directory / name).unlink()
        except OSError as exc:
            raise WorkerError(f"Cannot use {self._directory}: {exc}") from exc

    # ---- reading

    def all(self, owner: Owner) -> list[Row]:
        """An owner's backups, oldest first. Raises NotFoundError."""
        self._find_owner(owner)
        return self._of(owner)

    def get(self, owner: Owner, name: str) -> Row:
        """One backup. Raises NotFoundError."""
        for row in self.all(owner):
            if row.name == name:
                return row
        raise NotFoundError(self._missing)

    def next_name(self, owner: Owner) -> str:
        """The name of a backup that was given none. Raises NotFoundError."""
        taken = [row.name for row in self.all(owner)] + [name for where, name in self._making if where == owner]
        numbers = [int(match[1]) for name in taken if (match := _AUTOMATIC.match(name))]
        return f"backup{max(numbers, default=-1) + 1}"

    async def open(self, owner: Owner, name: str) -> tuple[BinaryIO, int]:
        """A backup's file and its size. Raises NotFoundError."""
        path = self._directory / self.get(owner, name).file
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise NotFoundError(self._missing) from None
        return file, os.fstat(file.fileno()).st_size

    # ---- making

    def check_new(self, owner: Owner, name: str) -> None:
        """Raises NotFoundError, InvalidRequestError, and ConflictError when the name is taken."""
        if not name or "/" in name:
            raise InvalidRequestError("Backup names may not contain slashes")
        if name.startswith(".") or not name.isprintable() or len(name) > 200:
            raise InvalidRequestError(f"Invalid backup name {name!r:.200}")
        if (owner, name) in self._making or any(row.name == name for row in self.all(owner)):
            raise ConflictError(f'Backup "{name}" already exists')

    @contextmanager
    def making(self, owner: Owner, name: str) -> Iterator[None]:
        """Hold a name that is free."""
        self._making.add((owner, name))
        try:
            yield
        finally:
            self._making.discard((owner, name))

    async def keep(self, row: Row, packed: Path, write: Callable[[], Awaitable[None]]) -> None:
        """Make a file a backup; `write` writes its row, which comes after the file. Raises WorkerError."""
        target = self._directory / row.file
        await asyncio.to_thread(_move, packed, target)
        try:
            await write()
        except BaseException:
            await asyncio.to_thread(target.unlink, True)
            raise
        self._rows[row.file] = row

    # ---- changing: what has been written to the database

    def change(self, row: Row, changed: Callable[[Row], Row]) -> Row | None:
        """A backup has another row; its owner may have been renamed since `row` was read. None: it is gone."""
        now = self._rows.get(row.file)
        if now is not None:
            now = self._rows[row.file] = changed(now)
        return now

    def rename_owner(self, old: Owner, renamed: Callable[[Row], Row]) -> None:
        """An owner has another name, and with it its backups' rows."""
        for row in self._of(old):
            self._rows[row.file] = renamed(row)

    async def remove(self, row: Row) -> None:
        """Remove the file of a backup that has no row any more."""
        self._rows.pop(row.file, None)
        await asyncio.to_thread((self._directory / row.file).unlink, True)

    async def keep_time(self, delete: Callable[[Row], Awaitable[None]]) -> None:
        """Have backups deleted that have expired; for ever."""
        while True:
            now = time.time()
            for row in [each for each in self._rows.values() if 0 < each.expires_at <= now]:
                try:
                    await delete(row)
                except NotFoundError:
                    # Deleted meanwhile.
                    continue
                except Exception:
                    logger.exception("Cannot delete expired backup %s of %s", row.name, self._owner_of(row))
            await asyncio.sleep(_EXPIRY_CHECK_S)

    async def forget(self, owner: Owner) -> None:
        """Remove the files of an owner that was deleted, whose rows are gone with its own."""
        for row in self._of(owner):
            await self.remove(row)

    def _of(self, owner: Owner) -> list[Row]:
        return [row for row in self._rows.values() if self._owner_of(row) == owner]


def _move(source: Path, target: Path) -> None:
    """Give a file its name, for good. Raises WorkerError."""
    try:
        os.rename(source, target)
        fd = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise WorkerError(f"Cannot keep a backup: {exc}") from exc
