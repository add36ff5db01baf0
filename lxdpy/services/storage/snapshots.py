"""Snapshots of custom volumes: copies, which share what the file system lets them share."""

import dataclasses
import re
import time
from collections.abc import Callable

from lxdpy.db import storage as table
from lxdpy.db.connection import Database
from lxdpy.db.storage import VolumeSnapshotRecord
from lxdpy.services.events import Announce
from lxdpy.services.storage import settings
from lxdpy.services.storage.directories import new_directory
from lxdpy.services.storage.model import Settings, Volume, VolumeKey
from lxdpy.services.storage.shelf import Entry, Shelf, settings_of, volume_path
from lxdpy.services.uninterrupted import uninterrupted

_AUTOMATIC = re.compile(r"snap(\d{1,9})\Z")


class VolumeSnapshots:
    """Every snapshot of every custom volume."""

    def __init__(self, shelf: Shelf, database: Database, announce: Announce) -> None:
        self._shelf = shelf
        self._database = database
        self._announce = announce

    def all(self, key: VolumeKey) -> list[Volume]:
        """A volume's snapshots, oldest first. Raises NotFoundError."""
        return [_view(record) for record in self._shelf.get(key).snapshots.values()]

    def get(self, key: VolumeKey, name: str) -> Volume:
        """One snapshot. Raises NotFoundError."""
        return _view(self._shelf.get(key).snapshot(name))

    def next_name(self, key: VolumeKey) -> str:
        """The name of a snapshot that was given none. Raises NotFoundError."""
        numbers = [int(match[1]) for name in self._shelf.get(key).snapshots if (match := _AUTOMATIC.match(name))]
        return f"snap{max(numbers, default=-1) + 1}"

    def check_new(self, key: VolumeKey, name: str) -> None:
        """Raises what `take` raises when it can't even begin."""
        settings.check_name("Snapshot", name)
        self._shelf.check_free_snapshot(key, name)

    async def take(self, key: VolumeKey, name: str, description: str) -> None:
        """Copy a volume as it is now; what is written meanwhile may be in it or not.

        Raises NotFoundError, InvalidRequestError, ConflictError, NoSpaceError, WorkerError.
        """
        self.check_new(key, name)
        entry = self._shelf.get(key)
        directory = new_directory(key.project, key.name, name)
        record = VolumeSnapshotRecord(
            key.pool, key.project, key.name, name, description, entry.record.config, time.time(), directory
        )
        with self._shelf.snapshot_reservation(key, name), entry.reading():
            place = self._shelf.snapshot_place(record)
            await self._shelf.copy_tree(self._shelf.volume_place(entry.record), place)
            try:
                await uninterrupted(self._put(entry, record))
            except BaseException:
                if name not in entry.snapshots:
                    self._shelf.remove_soon(place)
                raise
        self._announce("storage-volume-snapshot-created", volume_path(key, name))

    async def _put(self, entry: Entry, record: VolumeSnapshotRecord) -> None:
        await self._database.run(lambda db: table.put_snapshot(db, record))
        entry.snapshots[record.name] = record

    async def update(self, key: VolumeKey, name: str, wanted: Callable[[Settings], Settings]) -> None:
        """Replace a snapshot's description. Raises NotFoundError, and what `wanted` raises."""
        async with self._shelf.locked(key) as entry:
            record = entry.snapshot(name)
            new = wanted(settings_of(record))
            await uninterrupted(self._put(entry, dataclasses.replace(record, description=new.description)))
        self._announce("storage-volume-snapshot-updated", volume_path(key, name))

    async def rename(self, key: VolumeKey, name: str, new: str) -> None:
        """Give a snapshot another name. Raises NotFoundError, InvalidRequestError, ConflictError, BusyError."""
        async with self._shelf.locked(key) as entry:
            record = entry.snapshot(name)
            self.check_new(key, new)
            entry.check_idle()
            await uninterrupted(self._rename(entry, record, new))
        self._announce("storage-volume-snapshot-renamed", volume_path(key, new), {"old_name": name})

    async def _rename(self, entry: Entry, record: VolumeSnapshotRecord, new: str) -> None:
        await self._database.run(lambda db: table.rename_snapshot(db, record, new))
        entry.snapshots = {
            (new if name == record.name else name): (dataclasses.replace(each, name=new) if each is record else each)
            for name, each in entry.snapshots.items()
        }

    async def delete(self, key: VolumeKey, name: str) -> None:
        """Delete a snapshot. Raises NotFoundError, BusyError."""
        async with self._shelf.locked(key) as entry:
            record = entry.snapshot(name)
            entry.check_idle()
            await uninterrupted(self._delete(entry, record))
        self._announce("storage-volume-snapshot-deleted", volume_path(key, name))

    async def _delete(self, entry: Entry, record: VolumeSnapshotRecord) -> None:
        await self._database.run(lambda db: table.delete_snapshot(db, record))
        del entry.snapshots[record.name]
        self._shelf.remove_soon(self._shelf.snapshot_place(record))


def _view(record: VolumeSnapshotRecord) -> Volume:
    return Volume(
        record.pool,
        "custom",
        record.project,
        record.volume,
        settings_of(record),
        record.created_at,
        (),
        record.name,
    )
