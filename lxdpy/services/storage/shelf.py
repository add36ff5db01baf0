"""The custom volumes in memory: found by what names them, locked, and kept from going while they are copied."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from lxdpy.db.storage import PoolRecord, VolumeRecord, VolumeSnapshotRecord
from lxdpy.drivers.base import VolumeTrees
from lxdpy.errors import BusyError, ConflictError, NotFoundError
from lxdpy.project import in_project
from lxdpy.services.background import Background
from lxdpy.services.storage.directories import PoolDirectories
from lxdpy.services.storage.model import Holding, Settings, User, VolumeKey


class Pools(Protocol):
    """What volumes need to know of pools and their users."""

    def record(self, name: str) -> PoolRecord:
        """One pool. Raises NotFoundError."""

    def users(self) -> Iterator[User]:
        """Everything whose devices may need pools and volumes."""

    def holdings(self) -> Iterator[Holding]:
        """The instances and images that the default pool holds."""


class Entry:
    """One custom volume."""

    def __init__(self, record: VolumeRecord, snapshots: list[VolumeSnapshotRecord]) -> None:
        self.record = record
        self.snapshots = {snapshot.name: snapshot for snapshot in snapshots}
        """Oldest first."""
        self.lock = asyncio.Lock()
        """Held by whoever changes the volume, and by a start that is about to use it."""
        self.readers = 0
        """How many copies of it, or of its snapshots, are being made."""

    @property
    def key(self) -> VolumeKey:
        """What names it."""
        return VolumeKey(self.record.pool, self.record.project, self.record.name)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A copy of the volume, or of a snapshot, is being made: neither goes meanwhile."""
        self.readers += 1
        try:
            yield
        finally:
            self.readers -= 1

    def check_idle(self) -> None:
        """Raises BusyError while a copy is being made."""
        if self.readers:
            raise BusyError(f'Volume "{self.record.name}" is being copied')

    def snapshot(self, name: str) -> VolumeSnapshotRecord:
        """One snapshot. Raises NotFoundError."""
        try:
            return self.snapshots[name]
        except KeyError:
            raise NotFoundError("Snapshot not found") from None


class Shelf:
    """Every custom volume of this host."""

    def __init__(
        self,
        pools: Pools,
        directories: PoolDirectories,
        trees: VolumeTrees,
        filling: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        """`filling` keeps a project as it is while a volume of it is made."""
        self._filling = filling
        self.pools = pools
        self.trees = trees
        self._directories = directories
        self.entries: dict[VolumeKey, Entry] = {}
        self._reserved: set[object] = set()
        self._background = Background()

    def get(self, key: VolumeKey) -> Entry:
        """One volume. Raises NotFoundError."""
        self.pools.record(key.pool)
        try:
            return self.entries[key]
        except KeyError:
            raise NotFoundError("Storage pool volume not found") from None

    @asynccontextmanager
    async def locked(self, key: VolumeKey) -> AsyncIterator[Entry]:
        """One volume, its lock held. Raises NotFoundError."""
        entry = self.get(key)
        async with entry.lock:
            # The name may be another volume's by now.
            if self.entries.get(key) is not entry:
                raise NotFoundError("Storage pool volume not found")
            yield entry

    def check_free(self, key: VolumeKey) -> None:
        """Raises ConflictError when there is such a volume, or is about to be."""
        if key in self.entries or key in self._reserved:
            raise ConflictError(f'Volume by the name "{key.name}" already exists')

    @contextmanager
    def reservation(self, key: VolumeKey) -> Iterator[None]:
        """Nobody else makes a volume of this name meanwhile. Raises ConflictError, NotFoundError (its project)."""
        self.check_free(key)
        with self._filling(key.project), self._reservation(key):
            yield

    def check_free_snapshot(self, key: VolumeKey, name: str) -> None:
        """Raises NotFoundError, and ConflictError when there is such a snapshot, or is about to be."""
        if name in self.get(key).snapshots or (key, name) in self._reserved:
            raise ConflictError(f'Snapshot "{name}" already in use')

    @contextmanager
    def snapshot_reservation(self, key: VolumeKey, name: str) -> Iterator[None]:
        """Nobody else makes a snapshot of this name meanwhile. Raises NotFoundError, ConflictError."""
        self.check_free_snapshot(key, name)
        with self._reservation((key, name)):
            yield

    @contextmanager
    def _reservation(self, what: object) -> Iterator[None]:
        self._reserved.add(what)
        try:
            yield
        finally:
            self._reserved.discard(what)

    # ---- who uses them

    def users(self, key: VolumeKey) -> list[User]:
        """The instances and profiles whose devices show a volume."""
        return [
            user
            for user in self.pools.users()
            if user.project == key.project and any(shows(device, key) for device in user.devices.values())
        ]

    def running_user(self, key: VolumeKey) -> str | None:
        """The API path of a running instance that uses a volume."""
        return next((user.path for user in self.users(key) if user.running), None)

    # ---- on disk

    def volume_place(self, record: VolumeRecord) -> Path:
        """Where a volume's files are."""
        return self._directories.volume(self.pools.record(record.pool), record.directory)

    def snapshot_place(self, record: VolumeSnapshotRecord) -> Path:
        """Where a snapshot's files are."""
        return self._directories.snapshot(self.pools.record(record.pool), record.directory)

    async def create_tree(self, place: Path) -> None:
        """Make an empty volume's directory. Raises NoSpaceError, WorkerError."""
        await asyncio.to_thread(self._directories.create_volume, place)

    async def copy_tree(self, source: Path, place: Path) -> None:
        """Copy a tree to where a row will name it; what there is of it when this raises, is removed.

        Raises NoSpaceError, WorkerError.
        """
        await asyncio.to_thread(self._directories.prepare, place)
        try:
            await self.trees.copy(source, place)
            await asyncio.to_thread(self._directories.sync, place)
        except BaseException:
            self.remove_soon(place)
            raise

    def remove_soon(self, *places: Path) -> None:
        """Remove what no row names, while nobody waits for it; what is left then, the next daemon sweeps."""
        for place in places:
            self._background.spawn(asyncio.to_thread(self._directories.remove, place))

    async def close(self) -> None:
        """Wait for what is being removed."""
        await self._background.finish()


def shows(device: Mapping[str, str], key: VolumeKey) -> bool:
    """Whether a device is a disk that shows a custom volume."""
    return (
        device.get("type") == "disk"
        and device.get("path") != "/"
        and (device.get("pool"), device.get("source")) == (key.pool, key.name)
    )


def volume_path(key: VolumeKey, snapshot: str = "") -> str:
    """A custom volume's path in the API, or a snapshot's."""
    path = f"/1.0/storage-pools/{quote(key.pool, safe='')}/volumes/custom/{quote(key.name, safe='')}"
    if snapshot:
        path += f"/snapshots/{quote(snapshot, safe='')}"
    return in_project(path, key.project)


def settings_of(record: VolumeRecord | VolumeSnapshotRecord) -> Settings:
    """What a client may write of a volume or a snapshot."""
    return Settings(record.description, record.config)
