"""Custom volumes: directories of pools, which instances and profiles use by disk devices.

As with instances, the directory comes before the row, and the row goes before the directory. What is being copied stays
as it is meanwhile; nobody waits for a copy but who asked for it.
"""

import dataclasses
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from lxdpy.db import storage as table
from lxdpy.db.connection import Database
from lxdpy.db.storage import VolumeRecord, VolumeSnapshotRecord
from lxdpy.errors import InvalidRequestError, NotFoundError
from lxdpy.services.events import Announce
from lxdpy.services.storage import settings
from lxdpy.services.storage.directories import new_directory
from lxdpy.services.storage.model import DEFAULT_POOL, Holding, Settings, Volume, VolumeKey, VolumeSource
from lxdpy.services.storage.shelf import Entry, Shelf, settings_of, volume_path
from lxdpy.services.storage.snapshots import VolumeSnapshots
from lxdpy.services.uninterrupted import uninterrupted

CUSTOM = "custom"
_ID_OPTIONS = ("security.shifted", "security.unmapped")

Rename = Callable[[VolumeKey, VolumeKey], Awaitable[None]]
Forget = Callable[[VolumeKey], Awaitable[None]]


class DescribedSnapshot(Protocol):
    """What is known of a snapshot that is to be made of a tree."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Settings: ...


class VolumeService:
    """Every volume of every pool."""

    def __init__(self, shelf: Shelf, database: Database, announce: Announce) -> None:
        self._shelf = shelf
        self._database = database
        self._announce = announce
        self._renamers: list[Rename] = []
        self._forgetters: list[Forget] = []
        self.snapshots = VolumeSnapshots(shelf, database, announce)

    async def load(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Read the database; returns the directories of volumes and of snapshots, as `PoolDirectories.sweep` wants."""
        volumes = await self._database.run(table.load_volumes)
        snapshots = await self._database.run(table.load_snapshots)
        for volume in volumes:
            key = VolumeKey(volume.pool, volume.project, volume.name)
            own = [entry for entry in snapshots if VolumeKey(entry.pool, entry.project, entry.volume) == key]
            self._shelf.entries[key] = Entry(volume, own)
        self.snapshots.watch()
        return (
            {(volume.pool, volume.directory) for volume in volumes},
            {(snapshot.pool, snapshot.directory) for snapshot in snapshots},
        )

    async def close(self) -> None:
        """Wait for what is being removed."""
        await self.snapshots.close()
        await self._shelf.close()

    def on_rename(self, rename: Rename) -> None:
        """Have `rename(old, new)` called when a volume that nothing running uses has got another name."""
        self._renamers.append(rename)

    def on_delete(self, forget: Forget) -> None:
        """Have `forget(key)` called when a volume is deleted."""
        self._forgetters.append(forget)

    # ---- reading

    def all(self, pool: str) -> list[Volume]:
        """Every volume of a pool, whatever its project, with their snapshots. Raises NotFoundError."""
        self._shelf.pools.record(pool)
        found = [
            volume
            for key, entry in self._shelf.entries.items()
            if key.pool == pool
            for volume in (self._volume(entry), *self.snapshots.all(key))
        ]
        if pool == DEFAULT_POOL:
            found += [_held(held) for held in self._shelf.pools.holdings()]
        return sorted(found, key=lambda volume: (volume.kind, volume.project, volume.name, volume.snapshot))

    def get(self, kind: str, key: VolumeKey) -> Volume:
        """One volume. Raises NotFoundError."""
        self._shelf.pools.record(key.pool)
        if kind == CUSTOM:
            return self._volume(self._shelf.get(key))
        for held in self._shelf.pools.holdings() if key.pool == DEFAULT_POOL else ():
            if (held.kind, held.project, held.name) == (kind, key.project, key.name):
                return _held(held)
        raise NotFoundError("Storage pool volume not found")

    async def usage(self, key: VolumeKey) -> int:
        """Bytes that a custom volume takes on its disk. Raises NotFoundError, WorkerError."""
        entry = self._shelf.get(key)
        return await self._shelf.trees.usage(self._shelf.volume_place(entry.record))

    def paths_in(self, pool: str) -> list[str]:
        """API paths of a pool's custom volumes and their snapshots."""
        return [
            path
            for key, entry in self._shelf.entries.items()
            if key.pool == pool
            for path in (volume_path(key), *(volume_path(key, name) for name in entry.snapshots))
        ]

    def paths_of(self, project: str) -> list[str]:
        """API paths of a project's own custom volumes."""
        return [volume_path(key) for key in self._shelf.entries if key.project == project]

    def settings(self, key: VolumeKey) -> Settings:
        """What a client may write of a custom volume, as it is now. Raises NotFoundError."""
        return settings_of(self._shelf.get(key).record)

    def place(self, key: VolumeKey) -> Path:
        """Where a custom volume's files are, until it is restored. Raises NotFoundError."""
        return self._shelf.volume_place(self._shelf.get(key).record)

    @asynccontextmanager
    async def held(self, keys: Iterable[VolumeKey]) -> AsyncIterator[None]:
        """Keep volumes as they are while something begins to use them; those that do not exist are ignored."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys), key=lambda key: (key.pool, key.project, key.name)):
                if entry := self._shelf.entries.get(key):
                    await stack.enter_async_context(entry.lock)
            yield

    # ---- making

    async def create(self, key: VolumeKey, wanted: Settings) -> None:
        """Make an empty volume. Raises NotFoundError (pool), InvalidRequestError, UnsupportedError, ConflictError."""
        self._check_new(key, wanted)
        with self._shelf.reservation(key):
            await uninterrupted(self._create(_record(key, wanted)))
        self._announce("storage-volume-created", volume_path(key))

    async def _create(self, record: VolumeRecord) -> None:
        await self._shelf.create_tree(self._shelf.volume_place(record))
        await self._add(record, [])

    def check_copy(self, key: VolumeKey, source: VolumeSource, wanted: Settings) -> None:
        """Raises what `copy` raises when it can't even begin."""
        self._check_new(key, wanted)
        self._shelf.check_free(key)
        entry = self._shelf.get(source.key)
        if source.snapshot:
            entry.snapshot(source.snapshot)

    async def copy(self, key: VolumeKey, source: VolumeSource, wanted: Settings) -> None:
        """Make a volume that is a copy of another one, or of a snapshot: whole, or not there at all.

        Raises NotFoundError, InvalidRequestError, UnsupportedError, ConflictError, NoSpaceError, WorkerError.
        """
        self.check_copy(key, source, wanted)
        entry = self._shelf.get(source.key)
        with self._shelf.reservation(key), entry.reading():
            await self._copy(key, entry, source, wanted)
        self._announce("storage-volume-created", volume_path(key))

    async def _copy(self, key: VolumeKey, entry: Entry, source: VolumeSource, wanted: Settings) -> None:
        shelf = self._shelf
        record = _record(key, wanted)
        taken = entry.snapshots.values() if source.with_snapshots and not source.snapshot else ()
        snapshots = [(old, _copied(old, key)) for old in taken]
        if source.snapshot:
            origin = shelf.snapshot_place(entry.snapshot(source.snapshot))
        else:
            origin = shelf.volume_place(entry.record)
        places = [(shelf.snapshot_place(old), shelf.snapshot_place(new)) for old, new in snapshots]
        places.append((origin, shelf.volume_place(record)))
        await self._copy_all(record, [new for _, new in snapshots], places)

    async def _copy_all(
        self, record: VolumeRecord, snapshots: list[VolumeSnapshotRecord], places: list[tuple[Path, Path]]
    ) -> None:
        """Copy each of `places`, the old one to the new one, and write the rows of what they are."""
        made: list[Path] = []
        try:
            for old, new in places:
                await self._shelf.copy_tree(old, new)
                made.append(new)
            await uninterrupted(self._add(record, snapshots))
        except BaseException:
            if VolumeKey(record.pool, record.project, record.name) not in self._shelf.entries:
                self._shelf.remove_soon(*made)
            raise

    def check_move(self, key: VolumeKey, source: VolumeSource) -> None:
        """Raises what `move` raises when it can't even begin."""
        self.check_copy(key, source, self.settings(source.key))
        self._check_unused(source.key)

    async def move(self, key: VolumeKey, source: VolumeSource) -> None:
        """Move a volume that nothing uses to another pool or project. Raises what `copy` and `delete` raise."""
        self.check_move(key, source)
        await self.copy(key, source, self.settings(source.key))
        await self.delete(source.key)

    async def create_of(
        self, key: VolumeKey, wanted: Settings, files: Path, snapshots: Sequence[tuple[Path, DescribedSnapshot]]
    ) -> None:
        """Make a volume, and snapshots of it, of trees that are copied: whole, or not there at all.

        Raises what `copy` raises.
        """
        self._check_new(key, wanted)
        record = _record(key, wanted)
        now = time.time()
        records = []
        for number, (_, each) in enumerate(snapshots):
            settings.check_name("Snapshot", each.name)
            directory = new_directory(key.project, key.name, each.name)
            records.append(
                VolumeSnapshotRecord(
                    key.pool,
                    key.project,
                    key.name,
                    each.name,
                    each.settings.description,
                    each.settings.config,
                    # In the order given, also for the next daemon.
                    now + number / 1000,
                    directory,
                    0.0,
                )
            )
        places = [(tree, self._shelf.snapshot_place(new)) for (tree, _), new in zip(snapshots, records, strict=True)]
        places.append((files, self._shelf.volume_place(record)))
        with self._shelf.reservation(key):
            await self._copy_all(record, records, places)
        self._announce("storage-volume-created", volume_path(key))

    async def _add(self, record: VolumeRecord, snapshots: list[VolumeSnapshotRecord]) -> None:
        def write(db: sqlite3.Connection) -> None:
            table.put_volume(db, record)
            for snapshot in snapshots:
                table.put_snapshot(db, snapshot)

        await self._database.run(write)
        entry = Entry(record, snapshots)
        self._shelf.entries[entry.key] = entry

    # ---- changing

    async def update(self, key: VolumeKey, wanted: Callable[[Settings], Settings]) -> None:
        """Replace what a client may write; `wanted` is asked while nothing else changes the volume.

        Raises NotFoundError, InvalidRequestError, UnsupportedError, and what `wanted` raises.
        """
        async with self._shelf.locked(key) as entry:
            new = wanted(settings_of(entry.record))
            settings.check_volume_config(key.name, new.config)
            config = _given(new.config)
            for option in _ID_OPTIONS:
                if config.get(option) != entry.record.config.get(option):
                    self._check_stopped(f"change {option} of", key)
            record = dataclasses.replace(entry.record, description=new.description, config=config)
            await uninterrupted(self._put(entry, record))
        self._announce("storage-volume-updated", volume_path(key))

    async def _put(self, entry: Entry, record: VolumeRecord) -> None:
        await self._database.run(lambda db: table.put_volume(db, record))
        entry.record = record

    async def rename(self, key: VolumeKey, name: str) -> None:
        """Give a volume another name; the devices of its users follow.

        Raises NotFoundError, InvalidRequestError (the name; a running instance uses it), ConflictError, BusyError.
        """
        new = dataclasses.replace(key, name=name)
        settings.check_name("Storage volume", name)
        async with self._shelf.locked(key) as entry:
            entry.check_idle()
            self._check_stopped("rename", key)
            with self._shelf.reservation(new):
                await uninterrupted(self._rename(entry, new))
        self._announce("storage-volume-renamed", volume_path(new), {"old_name": key.name})

    async def _rename(self, entry: Entry, new: VolumeKey) -> None:
        old, record = entry.key, entry.record
        await self._database.run(lambda db: table.rename_volume(db, record, new.name))
        del self._shelf.entries[old]
        entry.record = dataclasses.replace(record, name=new.name)
        entry.snapshots = {
            name: dataclasses.replace(snapshot, volume=new.name) for name, snapshot in entry.snapshots.items()
        }
        self._shelf.entries[new] = entry
        for rename in self._renamers:
            await rename(old, new)

    async def delete(self, key: VolumeKey) -> None:
        """Delete a volume and its snapshots. Raises NotFoundError, InvalidRequestError when it is used, BusyError."""
        async with self._shelf.locked(key) as entry:
            entry.check_idle()
            self._check_unused(key)
            await uninterrupted(self._delete(entry))
        self._announce("storage-volume-deleted", volume_path(key))

    async def _delete(self, entry: Entry) -> None:
        record = entry.record
        await self._database.run(lambda db: table.delete_volume(db, record))
        del self._shelf.entries[entry.key]
        places = [self._shelf.snapshot_place(snapshot) for snapshot in entry.snapshots.values()]
        self._shelf.remove_soon(self._shelf.volume_place(record), *places)
        for forget in self._forgetters:
            await forget(VolumeKey(record.pool, record.project, record.name))

    async def restore(self, key: VolumeKey, name: str) -> None:
        """Give a volume the files of one of its snapshots.

        Raises NotFoundError, InvalidRequestError when a running instance uses it, BusyError, NoSpaceError, WorkerError.
        """
        entry = self._shelf.get(key)
        snapshot = entry.snapshot(name)
        self._check_stopped("restore", key)
        directory = new_directory(key.project, key.name)
        place = self._shelf.volume_place(dataclasses.replace(entry.record, directory=directory))
        with entry.reading():
            await self._shelf.copy_tree(self._shelf.snapshot_place(snapshot), place)
        try:
            async with self._shelf.locked(key) as entry:
                self._check_stopped("restore", key)
                # Or the files go from under a copy, which would take them for deleted.
                entry.check_idle()
                old = self._shelf.volume_place(entry.record)
                await uninterrupted(self._put(entry, dataclasses.replace(entry.record, directory=directory)))
        except BaseException:
            if entry.record.directory != directory:
                self._shelf.remove_soon(place)
            raise
        self._shelf.remove_soon(old)
        self._announce("storage-volume-restored", volume_path(key), {"snapshot": name})

    # ---- helpers

    def _check_new(self, key: VolumeKey, wanted: Settings) -> None:
        self._shelf.pools.record(key.pool)
        settings.check_name("Storage volume", key.name)
        settings.check_volume_config(key.name, wanted.config)

    def _check_stopped(self, attempt: str, key: VolumeKey) -> None:
        if user := self._shelf.running_user(key):
            raise InvalidRequestError(f'Cannot {attempt} volume "{key.name}": {user} uses it, and runs')

    def _check_unused(self, key: VolumeKey) -> None:
        if self._shelf.users(key):
            raise InvalidRequestError("The storage volume is still in use")

    def _volume(self, entry: Entry) -> Volume:
        record = entry.record
        users = tuple(sorted(user.path for user in self._shelf.users(entry.key)))
        return Volume(record.pool, CUSTOM, record.project, record.name, settings_of(record), record.created_at, users)


def _record(key: VolumeKey, wanted: Settings) -> VolumeRecord:
    return VolumeRecord(
        key.pool,
        key.project,
        key.name,
        wanted.description,
        _given(wanted.config),
        time.time(),
        new_directory(key.project, key.name),
    )


def _copied(old: VolumeSnapshotRecord, key: VolumeKey) -> VolumeSnapshotRecord:
    """A snapshot of the volume `key` that is a copy."""
    directory = new_directory(key.project, key.name, old.name)
    return dataclasses.replace(old, pool=key.pool, project=key.project, volume=key.name, directory=directory)


def _given(config: Mapping[str, str]) -> dict[str, str]:
    """A configuration without the keys that are empty."""
    return {key: value for key, value in config.items() if value}


def _held(held: Holding) -> Volume:
    return Volume(DEFAULT_POOL, held.kind, held.project, held.name, Settings(), held.created_at, (held.path,))
