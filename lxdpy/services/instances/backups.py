"""Backups of instances: files that hold an instance with its snapshots, and from which it can be made again, here or by
LXD (workers/layers/backup.py).

    STATE/backups/HEX      as services.backups keeps it
"""

import asyncio
import dataclasses
import logging
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO

from lxdpy import image_metadata
from lxdpy.db import backups as table
from lxdpy.db.backups import BackupRecord
from lxdpy.db.connection import Database
from lxdpy.db.instances import InstanceRecord
from lxdpy.drivers.base import BackupPartSpec, BackupSpec, Compression, Store
from lxdpy.errors import NotFoundError
from lxdpy.image_metadata import ImageMetadata
from lxdpy.oci.digest import Digest
from lxdpy.progress import Progress
from lxdpy.project import instance_url
from lxdpy.services.backups import BackupFiles
from lxdpy.services.events import Announce
from lxdpy.services.images import ImageService
from lxdpy.services.instances import backup_index, metadata
from lxdpy.services.instances.directory import InstanceDirectories, new_rw
from lxdpy.services.instances.life import Life
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.volatile import POWER, is_host_name
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

_PROGRESS = "create_backup_progress"


@dataclasses.dataclass(frozen=True, slots=True)
class NewBackup:
    """A backup that is wanted."""

    instance: str
    name: str
    expires_at: float
    """0: never."""
    instance_only: bool
    compression: Compression


class Backups:
    """Every backup of every instance."""

    def __init__(
        self,
        database: Database,
        roster: Roster,
        life: Life,
        directories: InstanceDirectories,
        store: Store,
        images: ImageService,
        profiles: Profiles,
        announce: Announce,
        state_dir: Path,
    ) -> None:
        self._database = database
        self._roster = roster
        self._life = life
        self._directories = directories
        self._store = store
        self._images = images
        self._profiles = profiles
        self._announce = announce
        self._state_dir = state_dir
        self._files: BackupFiles[BackupRecord, str] = BackupFiles(
            state_dir / "backups", lambda backup: backup.instance, roster.get, "Instance backup not found"
        )

    async def load(self) -> None:
        """Read the database, and remove files that it does not know."""
        await self._files.load(await self._database.run(table.load))

    # ---- reading

    def all(self, instance: str) -> list[BackupRecord]:
        """An instance's backups, oldest first. Raises NotFoundError."""
        return self._files.all(instance)

    def get(self, instance: str, name: str) -> BackupRecord:
        """One backup. Raises NotFoundError."""
        return self._files.get(instance, name)

    def next_name(self, instance: str) -> str:
        """The name of a backup that was given none. Raises NotFoundError."""
        return self._files.next_name(instance)

    async def open(self, instance: str, name: str) -> tuple[BinaryIO, int]:
        """A backup's file and its size. Raises NotFoundError."""
        return await self._files.open(instance, name)

    # ---- making

    def check_new(self, instance: str, name: str) -> None:
        """Raises NotFoundError, InvalidRequestError, and ConflictError when the name is taken."""
        self._files.check_new(instance, name)

    async def create(self, new: NewBackup, progress: Progress) -> None:
        """Pack an instance as it is now; one that runs stands still only while what it has written is copied.

        Raises NotFoundError, InvalidRequestError, ConflictError, UnsupportedError, LayerError, NoSpaceError,
        WorkerError.
        """
        self.check_new(new.instance, new.name)
        with self._files.making(new.instance, new.name):
            record = BackupRecord(
                new.instance, new.name, time.time(), new.expires_at, new.instance_only, uuid.uuid4().hex
            )
            async with AsyncExitStack() as stack:
                runtime = await stack.enter_async_context(self._roster.held(new.instance))
                taken = self._stacks(runtime, new)
                layers = tuple({layer for each in taken for layer in each.layers})
                stack.enter_context(
                    self._images.garbage.pin(layers, tuple({blob for each in taken for blob in each.blobs}))
                )
                for each in taken:
                    await self._images.ensure_layers(each)
                upper = await self._upper(runtime, stack)
                spec = await self._spec(runtime, new, upper)
                packed = await self._store.pack_backup(
                    spec, lambda count: progress.note({_PROGRESS: f"Instance backup: {count / 1e6:.1f}MB"})
                )
                assert packed.path is not None
                try:
                    await uninterrupted(self._keep(record, packed.path))
                finally:
                    packed.path.unlink(missing_ok=True)
        self._announce("instance-backup-created", instance_url(new.instance, "backups", new.name))

    async def _upper(self, runtime: Runtime, stack: AsyncExitStack) -> Path:
        """What the instance has written, as nobody changes it while `stack` is open."""
        name, record = runtime.record.name, runtime.record
        if runtime.container is None:
            await runtime.cleared()
            return self._directories.upper(name, record.rw)
        copy = new_rw()
        stack.push_async_callback(self._discard_rw, name, copy)
        await uninterrupted(asyncio.to_thread(self._directories.add_rw, name, copy, upper=False))
        upper = self._directories.upper(name, copy)
        async with self._life.still(runtime):
            await self._store.copy_directory(self._directories.upper(name, record.rw), upper)
        return upper

    async def _discard_rw(self, name: str, rw: str) -> None:
        if trash := self._directories.discard_rw(name, rw):
            await asyncio.to_thread(self._directories.remove, trash)

    @staticmethod
    def _stacks(runtime: Runtime, new: NewBackup) -> list[InstanceRecord]:
        """The instance, and the snapshots that come along, as they were."""
        return [runtime.record, *(() if new.instance_only else (each.taken for each in runtime.snapshots))]

    async def _spec(self, runtime: Runtime, new: NewBackup, upper: Path) -> BackupSpec:
        record = _at_rest(runtime.record)
        snapshots = () if new.instance_only else runtime.snapshots
        directory = self._directories.path(record.name)
        kept = await asyncio.to_thread(metadata.read, directory)
        templates = directory / image_metadata.TEMPLATES if kept is not None and kept.templates else None
        described = backup_index.describe(
            record,
            self._roster.expanded(runtime),
            [(each, self._expanded(each.taken)) for each in snapshots],
            [self._profiles.get(record.project, name) for name in record.profiles],
            str(self._state_dir),
        )
        index = backup_index.index(record.plain_name, [each.name for each in snapshots], described)
        texts = await asyncio.to_thread(lambda: (backup_index.dump(index), backup_index.dump(described)))
        parts = [
            BackupPartSpec(f"snapshots/{each.name}", each.taken.layers, None, self._texts(each.taken, kept), templates)
            for each in snapshots
        ]
        own = (("backup.yaml", texts[1]), *self._texts(record, kept))
        parts.append(BackupPartSpec("container", record.layers, upper, own, templates))
        return BackupSpec(texts[0], tuple(parts), int(time.time()), new.compression)

    def _expanded(self, taken: InstanceRecord) -> backup_index.Expanded:
        """What a snapshot would inherit; of profiles that are gone, nothing."""
        try:
            return self._profiles.expand(taken.project, taken.profiles, taken.config, taken.devices)
        except NotFoundError:
            return taken.config, taken.devices

    def _texts(self, record: InstanceRecord, kept: ImageMetadata | None) -> tuple[tuple[str, str], ...]:
        """The files beside a root file system: what image it was made of, and, of an app, how it runs."""
        about = kept or ImageMetadata(
            architecture=record.architecture,
            creation_date=int(record.created_at) or 1,
            properties={
                key.removeprefix("image."): value for key, value in record.config.items() if key.startswith("image.")
            },
        )
        texts = [(image_metadata.FILE, image_metadata.dump(about).decode())]
        if record.config_digest is not None:
            texts.append(("oci.json", self._document(record.config_digest)))
        return tuple(texts)

    def _document(self, digest: Digest) -> str:
        data = self._store.read_blob(digest)
        if data is None:
            raise NotFoundError(f"Document {digest} of an image is missing from the store")
        return data.decode()

    async def _keep(self, record: BackupRecord, packed: Path) -> None:
        await self._files.keep(record, packed, lambda: self._database.run(lambda db: table.put(db, record)))
        self._roster.on_change(record.instance)

    # ---- changing

    async def rename(self, instance: str, name: str, new: str) -> None:
        """Give a backup another name. Raises NotFoundError, InvalidRequestError, ConflictError."""
        backup = self.get(instance, name)
        self.check_new(instance, new)
        with self._files.making(instance, new):
            await uninterrupted(self._rename(backup, new))
        self._announce("instance-backup-renamed", instance_url(instance, "backups", new), {"old_name": name})

    async def _rename(self, backup: BackupRecord, new: str) -> None:
        await self._database.run(lambda db: table.rename(db, backup, new))
        if (now := self._files.change(backup, lambda record: dataclasses.replace(record, name=new))) is not None:
            self._roster.on_change(now.instance)

    async def delete(self, instance: str, name: str) -> None:
        """Delete a backup. Raises NotFoundError."""
        backup = self.get(instance, name)
        await uninterrupted(self._delete(backup))
        self._announce("instance-backup-deleted", instance_url(instance, "backups", name))

    async def _delete(self, backup: BackupRecord) -> None:
        await self._database.run(lambda db: table.delete(db, backup))
        try:
            await self._files.remove(backup)
        finally:
            self._roster.on_change(backup.instance)

    async def forget(self, instance: str) -> None:
        """Remove the files of an instance that was deleted, whose rows are gone with its own."""
        await self._files.forget(instance)

    def renamed(self, old: str, new: str) -> None:
        """An instance, and with it its backups' rows, has another name."""
        self._files.rename_owner(old, lambda backup: dataclasses.replace(backup, instance=new))
        self._roster.on_change(new)

    async def keep_time(self) -> None:
        """Delete backups that have expired; for ever."""
        await self._files.keep_time(lambda backup: self.delete(backup.instance, backup.name))


def _at_rest(record: InstanceRecord) -> InstanceRecord:
    """An instance as it is when it does not run: whoever imports it would start it, or think it runs."""
    config = {key: value for key, value in record.config.items() if not is_host_name(key)}
    return dataclasses.replace(record, config={**config, POWER: "STOPPED"})
