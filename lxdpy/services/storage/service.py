"""Storage pools: the one in the state directory that holds all instances and images, and others for custom volumes."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

from lxdpy.config import Config
from lxdpy.db import storage as table
from lxdpy.db.connection import Database
from lxdpy.db.storage import PoolRecord
from lxdpy.drivers.base import Store, VolumeTrees
from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, NotFoundError
from lxdpy.services.events import Announce
from lxdpy.services.projects import ProjectService
from lxdpy.services.storage import settings
from lxdpy.services.storage.backups import VolumeBackups
from lxdpy.services.storage.directories import PoolDirectories
from lxdpy.services.storage.model import DEFAULT_POOL, DIR, Holding, Pool, PoolResources, Settings, User
from lxdpy.services.storage.shelf import Shelf
from lxdpy.services.storage.volumes import VolumeService
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)


class StorageService:
    """Every pool of this host."""

    def __init__(
        self,
        config: Config,
        database: Database,
        trees: VolumeTrees,
        store: Store,
        projects: ProjectService,
        announce: Announce,
    ) -> None:
        self._database = database
        self._announce = announce
        self._directories = PoolDirectories(config.state_dir)
        self._pools: dict[str, PoolRecord] = {}
        self._changing = asyncio.Lock()
        self._users: list[Callable[[], Iterable[User]]] = []
        self._holdings: list[Callable[[], Iterable[Holding]]] = []
        shelf = Shelf(self, self._directories, trees, projects.filling)
        self.volumes = VolumeService(shelf, database, announce)
        self.backups = VolumeBackups(shelf, self.volumes, store, database, announce, config.state_dir)
        self.volumes.on_rename(self.backups.renamed)
        self.volumes.on_delete(self.backups.forget)
        projects.add_user(self.volumes.paths_of)

    async def load(self) -> None:
        """Read the database, and sweep what a dead daemon left."""
        self._pools = {pool.name: pool for pool in await self._database.run(table.load_pools)}
        volumes, snapshots = await self.volumes.load()
        await self.backups.load()
        pools = list(self._pools.values())
        for leftover in await asyncio.to_thread(self._directories.sweep, pools, volumes, snapshots):
            logger.info("Removing %s, left by an earlier daemon", leftover)
            await asyncio.to_thread(self._directories.remove, leftover)

    def add_users(self, users: Callable[[], Iterable[User]]) -> None:
        """Let `users` say who has devices that need pools and volumes."""
        self._users.append(users)

    def add_holdings(self, holdings: Callable[[], Iterable[Holding]]) -> None:
        """Let `holdings` say what the default pool holds besides custom volumes."""
        self._holdings.append(holdings)

    def users(self) -> Iterator[User]:
        """Everything whose devices may need pools and volumes."""
        for users in self._users:
            yield from users()

    def holdings(self) -> Iterator[Holding]:
        """The instances and images that the default pool holds."""
        for holdings in self._holdings:
            yield from holdings()

    async def close(self) -> None:
        """Wait for what is being removed."""
        await self.backups.close()
        await self.volumes.close()

    # ---- pools

    def pools(self) -> list[Pool]:
        """Every pool by name."""
        return [self.pool(name) for name in sorted(self._pools)]

    def pool(self, name: str) -> Pool:
        """One pool. Raises NotFoundError."""
        record = self.record(name)
        return Pool(
            record, self._directories.source(record), tuple(self._used_by(name)), self._directories.is_there(record)
        )

    async def resources(self, name: str) -> PoolResources:
        """Space and inodes of one pool. Raises NotFoundError, WorkerError."""
        return await asyncio.to_thread(self._directories.resources, self.record(name))

    async def create_pool(self, name: str, driver: str, wanted: Settings) -> None:
        """Make a pool. Raises InvalidRequestError, UnsupportedError, ConflictError when the name is taken."""
        settings.check_name("Storage pool", name)
        settings.check_pool_config(wanted.config)
        if driver != DIR:
            raise InvalidRequestError(f'Cannot create storage pool "{name}": driver "{driver:.100}" is not available')
        async with self._changing:
            if name in self._pools:
                raise ConflictError(f'The storage pool "{name}" already exists')
            config = {key: value for key, value in wanted.config.items() if value}
            if "source" in config:
                path = await asyncio.to_thread(
                    self._directories.check_source, config["source"], list(self._pools.values())
                )
                config["source"] = str(path)
            await uninterrupted(self._create_pool(PoolRecord(name, driver, wanted.description, config)))
        self._announce("storage-pool-created", pool_path(name))

    async def _create_pool(self, pool: PoolRecord) -> None:
        await asyncio.to_thread(self._directories.create, pool)
        await self._database.run(lambda db: table.put_pool(db, pool))
        self._pools[pool.name] = pool

    async def update_pool(self, name: str, wanted: Callable[[Pool], Settings]) -> None:
        """Replace what a client may write; `wanted` is asked while nothing else changes the pool.

        Raises NotFoundError, InvalidRequestError, UnsupportedError, and what `wanted` raises.
        """
        async with self._changing:
            pool = self.pool(name)
            new = wanted(pool)
            settings.check_pool_config(new.config)
            if new.config.get("source", str(pool.source)) != str(pool.source):
                raise InvalidRequestError(f'Cannot change the source of storage pool "{name}": it is {pool.source}')
            config = {key: value for key, value in new.config.items() if value and key != "source"}
            if "source" in pool.record.config:
                config["source"] = pool.record.config["source"]
            record = dataclasses.replace(pool.record, description=new.description, config=config)
            await uninterrupted(self._put_pool(record))
        self._announce("storage-pool-updated", pool_path(name))

    async def _put_pool(self, pool: PoolRecord) -> None:
        await self._database.run(lambda db: table.put_pool(db, pool))
        self._pools[pool.name] = pool

    async def delete_pool(self, name: str) -> None:
        """Delete an unused pool. Raises NotFoundError, InvalidRequestError when it is used, or the default one."""
        async with self._changing:
            pool = self.record(name)
            if name == DEFAULT_POOL:
                raise InvalidRequestError(f'Cannot delete storage pool "{name}": it holds all instances and images')
            if self._used_by(name):
                raise InvalidRequestError("The storage pool is currently in use")
            await uninterrupted(self._delete_pool(pool))
        self._announce("storage-pool-deleted", pool_path(name))

    async def _delete_pool(self, pool: PoolRecord) -> None:
        await self._database.run(lambda db: table.delete_pool(db, pool.name))
        del self._pools[pool.name]
        try:
            await asyncio.to_thread(self._directories.discard, pool)
        except LxdpyError as exc:
            # It is no pool any more; the next start sweeps the rest.
            logger.warning("%s", exc)

    def record(self, name: str) -> PoolRecord:
        """One pool as it is kept. Raises NotFoundError."""
        try:
            return self._pools[name]
        except KeyError:
            raise NotFoundError("Storage pool not found") from None

    def _used_by(self, name: str) -> list[str]:
        """API paths of what needs a pool."""
        users = [
            path
            for user in self.users()
            if any(
                device.get("type") == "disk"
                and device.get("pool") == name
                # Of an instance the one that it lies in; those of its volumes are theirs.
                and (user.is_profile or device.get("path") == "/")
                for device in user.devices.values()
            )
            for path in (user.path, *user.snapshots)
        ]
        return sorted(users) + sorted(self.volumes.paths_in(name))


def pool_path(name: str) -> str:
    """A pool's path in the API."""
    return f"/1.0/storage-pools/{quote(name, safe='')}"
