"""Snapshots of custom volumes: copies, which share what the file system lets them share."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable

from lxdpy.db import storage as table
from lxdpy.db.connection import Database
from lxdpy.db.storage import VolumeSnapshotRecord
from lxdpy.errors import LxdpyError
from lxdpy.services import expiry
from lxdpy.services.events import Announce
from lxdpy.services.storage import settings
from lxdpy.services.storage.directories import new_directory
from lxdpy.services.storage.model import Settings, Volume, VolumeKey
from lxdpy.services.storage.shelf import Entry, Shelf, settings_of, volume_path
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

_EXPIRY_CHECK_S = 60.0


class VolumeSnapshots:
    """Every snapshot of every custom volume."""

    def __init__(self, shelf: Shelf, database: Database, announce: Announce) -> None:
        self._shelf = shelf
        self._database = database
        self._announce = announce
        self._timer: asyncio.Task[None] | None = None

    def all(self, key: VolumeKey) -> list[Volume]:
        """A volume's snapshots, oldest first. Raises NotFoundError."""
        return [_view(record) for record in self._shelf.get(key).snapshots.values()]

    def get(self, key: VolumeKey, name: str) -> Volume:
        """One snapshot. Raises NotFoundError."""
        return _view(self._shelf.get(key).snapshot(name))

    def next_name(self, key: VolumeKey) -> str:
        """The name of a snapshot that was given none. Raises NotFoundError."""
        entry = self._shelf.get(key)
        return expiry.next_name(entry.record.config.get("snapshots.pattern", ""), entry.snapshots, time.time())

    def check_new(self, key: VolumeKey, name: str) -> None:
        """Raises what `take` raises when it can't even begin."""
        settings.check_name("Snapshot", name)
        self._shelf.check_free_snapshot(key, name)

    async def take(self, key: VolumeKey, name: str, description: str, expires_at: float | None = None) -> None:
        """Copy a volume as it is now; what is written meanwhile may be in it or not. `expires_at` None: as the volume
        says; 0: never. Without a description it has the volume's.

        Raises NotFoundError, InvalidRequestError, ConflictError, NoSpaceError, WorkerError.
        """
        self.check_new(key, name)
        entry = self._shelf.get(key)
        directory = new_directory(key.project, key.name, name)
        config, now = entry.record.config, time.time()
        if expires_at is None:
            expires_at = expiry.expires_at(config.get("snapshots.expiry", ""), now)
        described = description or entry.record.description
        record = VolumeSnapshotRecord(
            key.pool, key.project, key.name, name, described, config, now, directory, expires_at
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

    async def update(
        self, key: VolumeKey, name: str, wanted: Callable[[Settings], Settings], expires_at: float | None = None
    ) -> None:
        """Replace a snapshot's description; `expires_at` None: as it is.

        Raises NotFoundError, and what `wanted` raises.
        """
        async with self._shelf.locked(key) as entry:
            record = entry.snapshot(name)
            new = wanted(settings_of(record))
            expires = record.expires_at if expires_at is None else expires_at
            changed = dataclasses.replace(record, description=new.description, expires_at=expires)
            await uninterrupted(self._put(entry, changed))
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

    def watch(self) -> None:
        """Begin to delete snapshots that have expired."""
        self._timer = asyncio.create_task(self._keep_time())

    async def close(self) -> None:
        """End that."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])

    async def _keep_time(self) -> None:
        while True:
            now = time.time()
            expired = [
                (entry.key, snapshot.name)
                for entry in list(self._shelf.entries.values())
                for snapshot in entry.snapshots.values()
                if 0 < snapshot.expires_at <= now
            ]
            for key, name in expired:
                try:
                    await self.delete(key, name)
                except LxdpyError as exc:
                    # It is being copied, say: the next time, then.
                    logger.info("Expired snapshot %s of volume %s is not deleted: %s", name, key.name, exc)
            await asyncio.sleep(_EXPIRY_CHECK_S)


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
        record.expires_at,
    )
