"""Backups of custom volumes: files that hold a volume with its snapshots, and from which it can be made again, here or
by LXD (workers/layers/backup.py).

    STATE/volume-backups/HEX      the file; the database knows whose it is
"""

import asyncio
import dataclasses
import logging
import os
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from lxdpy.db import storage as table
from lxdpy.db.connection import Database
from lxdpy.db.storage import VolumeBackupRecord, VolumeRecord, VolumeSnapshotRecord
from lxdpy.drivers.base import BackupPartSpec, BackupSpec, Compression, ImageFiles, Store, UnpackedBackup
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, WorkerError
from lxdpy.image_metadata import load_document
from lxdpy.progress import Progress
from lxdpy.services.events import Announce
from lxdpy.services.storage.directories import new_directory
from lxdpy.services.storage.model import Settings, VolumeKey
from lxdpy.services.storage.shelf import Entry, Shelf, volume_path
from lxdpy.services.storage.volumes import VolumeService
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

_MAX_INDEX_BYTES = 4 << 20
_EXPIRY_CHECK_S = 60.0
_ZERO = "0001-01-01T00:00:00Z"
_AUTOMATIC = re.compile(r"backup(\d{1,9})\Z")


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
        self._root = state_dir / "volume-backups"
        self._records: dict[str, VolumeBackupRecord] = {}
        """By file."""
        self._making: set[tuple[VolumeKey, str]] = set()
        self._timer: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read the database, remove files that it does not know, and begin to delete what has expired."""
        self._records = {backup.file: backup for backup in await self._database.run(table.load_backups)}
        await asyncio.to_thread(self._sweep)
        self._timer = asyncio.create_task(self._keep_time())

    async def close(self) -> None:
        """End that."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])

    def _sweep(self) -> None:
        try:
            self._root.mkdir(mode=0o700, exist_ok=True)
            for name in os.listdir(self._root):
                if name not in self._records:
                    (self._root / name).unlink()
        except OSError as exc:
            raise WorkerError(f"Cannot use {self._root}: {exc}") from exc

    # ---- reading

    def all(self, key: VolumeKey) -> list[VolumeBackupRecord]:
        """A volume's backups, oldest first. Raises NotFoundError."""
        self._shelf.get(key)
        return [backup for backup in self._records.values() if _key(backup) == key]

    def get(self, key: VolumeKey, name: str) -> VolumeBackupRecord:
        """One backup. Raises NotFoundError."""
        for backup in self.all(key):
            if backup.name == name:
                return backup
        raise NotFoundError("Storage volume backup not found")

    def next_name(self, key: VolumeKey) -> str:
        """The name of a backup that was given none. Raises NotFoundError."""
        taken = [backup.name for backup in self.all(key)] + [name for where, name in self._making if where == key]
        numbers = [int(match[1]) for name in taken if (match := _AUTOMATIC.match(name))]
        return f"backup{max(numbers, default=-1) + 1}"

    async def open(self, key: VolumeKey, name: str) -> tuple[BinaryIO, int]:
        """A backup's file and its size. Raises NotFoundError."""
        path = self._root / self.get(key, name).file
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise NotFoundError("Storage volume backup not found") from None
        return file, os.fstat(file.fileno()).st_size

    # ---- making

    def check_new(self, key: VolumeKey, name: str) -> None:
        """Raises NotFoundError, InvalidRequestError, and ConflictError when the name is taken."""
        if not name or "/" in name:
            raise InvalidRequestError("Backup names may not contain slashes")
        if name.startswith(".") or not name.isprintable() or len(name) > 200:
            raise InvalidRequestError(f"Invalid backup name {name!r:.200}")
        if (key, name) in self._making or any(backup.name == name for backup in self.all(key)):
            raise ConflictError(f'Backup "{name}" already exists')

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
        self._making.add((new.key, new.name))
        try:
            with entry.reading():
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
        finally:
            self._making.discard((new.key, new.name))
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
        index = await asyncio.to_thread(_index, entry.record, snapshots)
        return BackupSpec(index, tuple(parts), int(time.time()), new.compression)

    async def _keep(self, record: VolumeBackupRecord, packed: Path) -> None:
        """The file comes before the row."""
        target = self._root / record.file
        await asyncio.to_thread(_move, packed, target)
        try:
            await self._database.run(lambda db: table.put_backup(db, record))
        except BaseException:
            await asyncio.to_thread(target.unlink, True)
            raise
        self._records[record.file] = record

    # ---- changing

    async def rename(self, key: VolumeKey, name: str, new: str) -> None:
        """Give a backup another name. Raises NotFoundError, InvalidRequestError, ConflictError."""
        backup = self.get(key, name)
        self.check_new(key, new)
        self._making.add((key, new))
        try:
            await uninterrupted(self._rename(backup, new))
        finally:
            self._making.discard((key, new))
        self._announce("storage-volume-backup-renamed", volume_path(key), {"old_name": name})

    async def _rename(self, backup: VolumeBackupRecord, new: str) -> None:
        await self._database.run(lambda db: table.rename_backup(db, backup, new))
        # Its volume may have been renamed, too, or deleted.
        if (now := self._records.get(backup.file)) is not None:
            self._records[backup.file] = dataclasses.replace(now, name=new)

    async def delete(self, key: VolumeKey, name: str) -> None:
        """Delete a backup. Raises NotFoundError."""
        await uninterrupted(self._delete(self.get(key, name)))
        self._announce("storage-volume-backup-deleted", volume_path(key))

    async def _delete(self, backup: VolumeBackupRecord) -> None:
        await self._database.run(lambda db: table.delete_backup(db, backup))
        self._records.pop(backup.file, None)
        await asyncio.to_thread((self._root / backup.file).unlink, True)

    async def forget(self, key: VolumeKey) -> None:
        """Remove the files of a volume that was deleted, whose rows are gone with its own."""
        for backup in [each for each in self._records.values() if _key(each) == key]:
            self._records.pop(backup.file, None)
            await asyncio.to_thread((self._root / backup.file).unlink, True)

    async def renamed(self, old: VolumeKey, new: VolumeKey) -> None:
        """A volume, and with it its backups' rows, has another name."""
        for file, backup in list(self._records.items()):
            if _key(backup) == old:
                self._records[file] = dataclasses.replace(backup, volume=new.name)

    async def _keep_time(self) -> None:
        while True:
            now = time.time()
            for backup in [each for each in self._records.values() if 0 < each.expires_at <= now]:
                try:
                    await self.delete(_key(backup), backup.name)
                except NotFoundError:
                    # Deleted meanwhile.
                    continue
                except Exception:
                    logger.exception("Cannot delete expired backup %s of %s", backup.name, backup.volume)
            await asyncio.sleep(_EXPIRY_CHECK_S)

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
            index = await asyncio.to_thread(_read_index, unpacked)
            key = VolumeKey(pool, project, name or index.name)
            found = [(unpacked.parts.get(f"volume-snapshots/{each.name}"), each) for each in index.snapshots]
            if missing := [each.name for part, each in found if part is None]:
                raise InvalidRequestError(f'The backup has no files of snapshot "{missing[0]}"')
            snapshots = [(part / "fs", each) for part, each in found if part is not None]
            await self._volumes.create_of(key, index.settings, unpacked.parts["volume"] / "fs", snapshots)
        finally:
            self._store.discard_backup(unpacked)


@dataclass(frozen=True, slots=True)
class DescribedSnapshot:
    """A snapshot as an index describes it."""

    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class _Index:
    name: str
    settings: Settings
    snapshots: tuple[DescribedSnapshot, ...]


def _index(record: VolumeRecord, snapshots: list[VolumeSnapshotRecord]) -> str:
    """index.yaml."""
    import yaml  # as in image_metadata

    document = {
        "name": record.name,
        "backend": "dir",
        "pool": record.pool,
        "snapshots": [snapshot.name for snapshot in snapshots],
        "optimized": False,
        "optimized_header": False,
        "type": "custom",
        "config": {
            "volume": {
                "config": dict(record.config),
                "description": record.description,
                "name": record.name,
                "type": "custom",
                "used_by": [],
                "location": "none",
                "content_type": "filesystem",
                "project": record.project,
                "created_at": _time(record.created_at),
            },
            "volume_snapshots": [
                {
                    "config": dict(snapshot.config),
                    "description": snapshot.description,
                    "name": snapshot.name,
                    "content_type": "filesystem",
                    "created_at": _time(snapshot.created_at),
                    "expires_at": _time(snapshot.expires_at) if snapshot.expires_at else _ZERO,
                }
                for snapshot in snapshots
            ],
        },
    }
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _read_index(unpacked: UnpackedBackup) -> _Index:
    try:
        data = (unpacked.directory / "index.yaml").read_bytes()
    except OSError as exc:
        raise WorkerError(f"Cannot read the index of a backup: {exc}") from exc
    document = _mapping(load_document(data, "index.yaml", _MAX_INDEX_BYTES))
    config = _mapping(document.get("config"))
    volume = _mapping(config.get("volume"))
    snapshots = config.get("volume_snapshots") or []
    if not isinstance(snapshots, list):
        raise InvalidRequestError("Invalid index.yaml: volume_snapshots is no list")
    return _Index(
        _text(volume.get("name") or document.get("name", "")),
        _settings(volume),
        tuple(
            DescribedSnapshot(_text(_mapping(each).get("name", "")).rpartition("/")[2], _settings(_mapping(each)))
            for each in snapshots
        ),
    )


def _settings(fields: Mapping[str, object]) -> Settings:
    config = {key: _text(value) for key, value in _mapping(fields.get("config")).items()}
    # LXD notes there whose ids are on its disk.
    config = {key: value for key, value in config.items() if not key.startswith("volatile.")}
    return Settings(_text(fields.get("description", "")), config)


def _mapping(value: object) -> Mapping[str, object]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidRequestError("Invalid index.yaml: expected a mapping")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError("Invalid index.yaml: expected a text")
    return value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _key(backup: VolumeBackupRecord) -> VolumeKey:
    return VolumeKey(backup.pool, backup.project, backup.volume)


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
