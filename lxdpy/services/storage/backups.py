"""Backups of custom volumes: files that hold a volume with its snapshots, and from which it can be made again, here or
by LXD (workers/layers/backup.py).

    STATE/volume-backups/HEX      as services.backups keeps it
"""

import asyncio
import dataclasses
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lxdpy.db import storage as table
from lxdpy.db.connection import Database
from lxdpy.db.storage import VolumeBackupRecord
from lxdpy.drivers.base import BackupPartSpec, BackupSpec, Compression, ImageFiles, Store
from lxdpy.errors import InvalidRequestError
from lxdpy.progress import Progress
from lxdpy.services.backups import BackupFiles
from lxdpy.services.events import Announce
from lxdpy.services.storage import backup_index
from lxdpy.services.storage.directories import new_directory
from lxdpy.services.storage.model import VolumeKey
from lxdpy.services.storage.shelf import Entry, Shelf, volume_path
from lxdpy.services.storage.volumes import VolumeService
from lxdpy.services.uninterrupted import uninterrupted


@dataclass(frozen=True, slots=True)
class NewVolumeBackup:
    """A backup that is wanted."""

    key: VolumeKey
    name: str
    expires_at: float
    """0: never."""
    volume_only: bool
    compression: Compression


class VolumeBackups:
    """Every backup of every custom volume."""

    def __init__(
        self,
        shelf: Shelf,
        volumes: VolumeService,
        store: Store,
        database: Database,
        announce: Announce,
        state_dir: Path,
    ) -> None:
        self._shelf = shelf
        self._volumes = volumes
        self._store = store
        self._database = database
        self._announce = announce
        self._files: BackupFiles[VolumeBackupRecord, VolumeKey] = BackupFiles(
            state_dir / "volume-backups", _key, shelf.get, "Storage volume backup not found"
        )
        self._timer: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read the database, remove files that it does not know, and begin to delete what has expired."""
        await self._files.load(await self._database.run(table.load_backups))
        self._timer = asyncio.create_task(self._files.keep_time(self._delete_expired))

    async def close(self) -> None:
        """End that."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])

    # ---- reading

    def all(self, key: VolumeKey) -> list[VolumeBackupRecord]:
        """A volume's backups, oldest first. Raises NotFoundError."""
        return self._files.all(key)

    def get(self, key: VolumeKey, name: str) -> VolumeBackupRecord:
        """One backup. Raises NotFoundError."""
        return self._files.get(key, name)

    def next_name(self, key: VolumeKey) -> str:
        """The name of a backup that was given none. Raises NotFoundError."""
        return self._files.next_name(key)

    async def open(self, key: VolumeKey, name: str) -> tuple[BinaryIO, int]:
        """A backup's file and its size. Raises NotFoundError."""
        return await self._files.open(key, name)

    # ---- making

    def check_new(self, key: VolumeKey, name: str) -> None:
        """Raises NotFoundError, InvalidRequestError, and ConflictError when the name is taken."""
        self._files.check_new(key, name)

    async def create(self, new: NewVolumeBackup, progress: Progress) -> None:
        """Pack a volume as it is now; what is written meanwhile may be in it or not.

        Raises NotFoundError, InvalidRequestError, ConflictError, UnsupportedError, LayerError, NoSpaceError,
        WorkerError.
        """
        self.check_new(new.key, new.name)
        entry = self._shelf.get(new.key)
        record = VolumeBackupRecord(
            new.key.pool,
            new.key.project,
            new.key.name,
            new.name,
            time.time(),
            new.expires_at,
            new.volume_only,
            uuid.uuid4().hex,
        )
        with self._files.making(new.key, new.name), entry.reading():
            async with AsyncExitStack() as stack:
                packed = await self._store.pack_backup(
                    await self._spec(entry, new, stack),
                    lambda count: progress.note({"create_backup_progress": f"Volume backup: {count / 1e6:.1f}MB"}),
                )
            assert packed.path is not None
            try:
                await uninterrupted(self._keep(record, packed.path))
            finally:
                packed.path.unlink(missing_ok=True)
        self._announce("storage-volume-backup-created", volume_path(new.key))

    async def _spec(self, entry: Entry, new: NewVolumeBackup, stack: AsyncExitStack) -> BackupSpec:
        snapshots = [] if new.volume_only else list(entry.snapshots.values())
        place = self._shelf.volume_place(entry.record)
        if self._shelf.running_user(new.key) is not None:
            # A file must not shrink while it is packed.
            record = dataclasses.replace(entry.record, directory=new_directory(new.key.project, new.key.name))
            copy = self._shelf.volume_place(record)
            await self._shelf.copy_tree(place, copy)
            stack.callback(self._shelf.remove_soon, copy)
            place = copy
        parts = [
            BackupPartSpec(f"volume-snapshots/{each.name}", (), self._shelf.snapshot_place(each), (), None, bare=True)
            for each in snapshots
        ]
        parts.append(BackupPartSpec("volume", (), place, (), None, bare=True))
        index = await asyncio.to_thread(backup_index.dump, entry.record, snapshots)
        return BackupSpec(index, tuple(parts), int(time.time()), new.compression)

    async def _keep(self, record: VolumeBackupRecord, packed: Path) -> None:
        await self._files.keep(record, packed, lambda: self._database.run(lambda db: table.put_backup(db, record)))

    # ---- changing

    async def rename(self, key: VolumeKey, name: str, new: str) -> None:
        """Give a backup another name. Raises NotFoundError, InvalidRequestError, ConflictError."""
        backup = self.get(key, name)
        self.check_new(key, new)
        with self._files.making(key, new):
            await uninterrupted(self._rename(backup, new))
        self._announce("storage-volume-backup-renamed", volume_path(key), {"old_name": name})

    async def _rename(self, backup: VolumeBackupRecord, new: str) -> None:
        await self._database.run(lambda db: table.rename_backup(db, backup, new))
        self._files.change(backup, lambda record: dataclasses.replace(record, name=new))

    async def delete(self, key: VolumeKey, name: str) -> None:
        """Delete a backup. Raises NotFoundError."""
        await uninterrupted(self._delete(self.get(key, name)))
        self._announce("storage-volume-backup-deleted", volume_path(key))

    async def _delete(self, backup: VolumeBackupRecord) -> None:
        await self._database.run(lambda db: table.delete_backup(db, backup))
        await self._files.remove(backup)

    async def _delete_expired(self, backup: VolumeBackupRecord) -> None:
        await self.delete(_key(backup), backup.name)

    async def forget(self, key: VolumeKey) -> None:
        """Remove the files of a volume that was deleted, whose rows are gone with its own."""
        await self._files.forget(key)

    async def renamed(self, old: VolumeKey, new: VolumeKey) -> None:
        """A volume, and with it its backups' rows, has another name."""
        self._files.rename_owner(old, lambda backup: dataclasses.replace(backup, volume=new.name))

    # ---- importing

    async def restore(self, pool: str, project: str, name: str, files: ImageFiles) -> None:
        """Make a volume of a backup; without a name, the one that the backup says.

        Raises LayerError, InvalidRequestError, UnsupportedError, NotFoundError (pool), ConflictError, NoSpaceError,
        WorkerError.
        """
        path = files.metadata.path
        assert path is not None
        unpacked = await self._store.unpack_backup(path, volume=True)
        try:
            index = await asyncio.to_thread(backup_index.read, unpacked)
            key = VolumeKey(pool, project, name or index.name)
            found = [(unpacked.parts.get(f"volume-snapshots/{each.name}"), each) for each in index.snapshots]
            if missing := [each.name for part, each in found if part is None]:
                raise InvalidRequestError(f'The backup has no files of snapshot "{missing[0]}"')
            snapshots = [(part / "fs", each) for part, each in found if part is not None]
            await self._volumes.create_of(key, index.settings, unpacked.parts["volume"] / "fs", snapshots)
        finally:
            self._store.discard_backup(unpacked)


def _key(backup: VolumeBackupRecord) -> VolumeKey:
    return VolumeKey(backup.pool, backup.project, backup.volume)
