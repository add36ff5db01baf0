"""The instances in memory: found by name, locked, and changed on disk and in memory alike."""

import dataclasses
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from lxdpy.db import instances as table
from lxdpy.db import snapshots as snapshot_table
from lxdpy.db.connection import Database
from lxdpy.db.instances import InstanceRecord
from lxdpy.db.profiles import ProfileRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, NotFoundError
from lxdpy.project import plain_name, split
from lxdpy.services.images import ImageService
from lxdpy.services.instances.directory import OLD_RW, new_rw
from lxdpy.services.instances.disks import root_of
from lxdpy.services.instances.process import Process, image_defaults, process, system
from lxdpy.services.instances.profiles import Profiles, ProfileUsers, Write
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.volatile import POWER
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

Snapshots = tuple[SnapshotRecord, ...]


class Roster:
    """Every instance of this host, and the only writer of their records."""

    def __init__(self, database: Database, images: ImageService, profiles: Profiles) -> None:
        self._database = database
        self._images = images
        self._profiles = profiles
        self.runtimes: dict[str, Runtime] = {}
        self.on_change: Callable[[str], None] = lambda name: None
        """Called with a name whenever what clients read of that instance changes."""
        self.follow: Callable[[str], Awaitable[None]] = _stay
        """Called with a name when what its profiles give an instance has changed, to bring it to that while it runs."""
        profiles.users = _ProfileUsers(self, database)

    async def load(self) -> None:
        """Read the database."""
        self.runtimes.update({runtime.record.name: runtime for runtime in await self._database.run(_read)})

    def get(self, name: str) -> Runtime:
        """One instance. Raises NotFoundError."""
        try:
            return self.runtimes[name]
        except KeyError:
            raise NotFoundError(f'Instance "{plain_name(name)}" not found') from None

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[Runtime]:
        """One instance, its lock held. Raises NotFoundError, also when it was deleted while we waited for the lock."""
        runtime = self.get(name)
        async with runtime.lock:
            # The name may be another instance's by now.
            if self.runtimes.get(name) is not runtime:
                raise NotFoundError(f'Instance "{plain_name(name)}" not found')
            yield runtime

    async def add(self, runtime: Runtime) -> None:
        """Write a new instance's row and those of its snapshots, and let it be found."""

        def write(db: sqlite3.Connection) -> None:
            table.put(db, runtime.record)
            for snapshot in runtime.snapshots:
                snapshot_table.put(db, snapshot)

        await self._database.run(write)
        self.runtimes[runtime.record.name] = runtime
        self.on_change(runtime.record.name)

    async def remove(self, runtime: Runtime) -> None:
        """Delete an instance's row and those of its snapshots; it is found no more."""
        async with runtime.changing:
            name = runtime.record.name
            await self._database.run(lambda db: table.delete(db, name))
            del self.runtimes[name]
        self.on_change(name)

    async def change(self, runtime: Runtime, change: Callable[[InstanceRecord], InstanceRecord]) -> None:
        """Replace an instance's record, on disk first; changes come one after the other, so none is lost."""
        await self.rewrite(runtime, lambda record, snapshots: (change(record), snapshots))

    async def rewrite(
        self, runtime: Runtime, change: Callable[[InstanceRecord, Snapshots], tuple[InstanceRecord, Snapshots]]
    ) -> None:
        """`change` for an instance together with its snapshots, in one commit. Those that it gives have other names
        than the instance's only when the record has, too: then all of it is renamed."""
        await uninterrupted(self._rewrite(runtime, change))

    async def _rewrite(
        self, runtime: Runtime, change: Callable[[InstanceRecord, Snapshots], tuple[InstanceRecord, Snapshots]]
    ) -> None:
        async with runtime.changing:
            old, kept = runtime.record, runtime.snapshots
            if self.runtimes.get(old.name) is not runtime:
                # Its row would be back, and an instance without files with the next daemon.
                raise NotFoundError(f'Instance "{plain_name(old.name)}" not found')
            record, snapshots = change(old, kept)
            if (record, snapshots) == (old, kept):
                return

            def write(db: sqlite3.Connection) -> None:
                if record.name != old.name:
                    table.rename(db, old.name, record.name)
                if record != old:
                    table.put(db, record)
                names = {snapshot.name for snapshot in snapshots}
                for gone in kept:
                    if gone.name not in names:
                        snapshot_table.delete(db, record.name, gone.name)
                for snapshot in snapshots:
                    if snapshot not in kept:
                        snapshot_table.put(db, snapshot)

            await self._database.run(write)
            runtime.record, runtime.snapshots = record, snapshots
            runtime.expanded = None
            if record.name != old.name:
                del self.runtimes[old.name]
                self.runtimes[record.name] = runtime
                self.on_change(old.name)
            self.on_change(record.name)

    async def set_power(self, runtime: Runtime, power: str) -> None:
        """Note whether an instance runs, for the next daemon."""
        await self.change(runtime, lambda record: dataclasses.replace(record, config={**record.config, POWER: power}))

    def expanded(self, runtime: Runtime) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        """Configuration and devices with what image and profiles give."""
        if runtime.expanded is None:
            runtime.expanded = self.expand(runtime.record)
        return runtime.expanded

    def expand(self, record: InstanceRecord) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        """`expanded` of an instance as it is, or was when it was snapshot."""
        config, devices = self._profiles.expand(record.project, record.profiles, record.config, record.devices)
        try:
            defaults = image_defaults(self._images.config(record.config_digest)) if record.config_digest else {}
        except LxdpyError as exc:
            # Its image is damaged: it can't be started, and still it is listed and deleted.
            logger.warning("Instance %s is shown without its image's defaults: %s", record.name, exc)
            defaults = {}
        if config.get("oci.entrypoint"):
            defaults.pop("oci.cmd", None)
        return {**defaults, **config}, devices

    def expanded_with(
        self, runtime: Runtime, new: ProfileRecord
    ) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        """What profiles and the instance itself say, if one of its profiles were `new`."""
        record = runtime.record
        return self._profiles.expand(record.project, record.profiles, record.config, record.devices, new=new)

    def owner_of_profiles(self, runtime: Runtime) -> str:
        """The project whose profiles an instance has."""
        return self._profiles.owner(runtime.record.project)

    def process(self, runtime: Runtime) -> Process:
        """What an instance runs. Raises NotFoundError when its image's documents are gone, InvalidRequestError."""
        record = runtime.record
        if record.config_digest is None:
            config, _ = self.expanded(runtime)
            return system(config)
        image = self._images.config(record.config_digest)
        # Only what the user and the profiles say overrides the image: `process` knows the image's own rules.
        config, _ = self._profiles.expand(record.project, record.profiles, record.config, record.devices)
        return process(record.plain_name, image, config)


async def _stay(name: str) -> None:
    """What an instance does that nobody brings to anything."""


class _ProfileUsers(ProfileUsers):
    """The instances of a roster that have profiles."""

    def __init__(self, roster: Roster, database: Database) -> None:
        self._roster = roster
        self._database = database

    def names(self, owner: str, profile: str) -> list[str]:
        """As `ProfileUsers.names`."""
        return sorted((runtime.record.name for runtime in self._with(owner, profile)), key=split)

    def check(self, new: ProfileRecord) -> None:
        """As `ProfileUsers.check`."""
        for runtime in self._with(new.project, new.name):
            _, devices = self._roster.expanded_with(runtime, new)
            if root_of(devices) is None:
                raise InvalidRequestError("At least one instance relies on this profile's root disk device")

    def changed(self, owner: str, profile: str) -> None:
        """As `ProfileUsers.changed`."""
        for runtime in self._with(owner, profile, snapshots=True):
            runtime.expanded = None
            self._roster.on_change(runtime.record.name)

    async def apply(self, owner: str, profile: str) -> None:
        """As `ProfileUsers.apply`."""
        failed = []
        for runtime in self._with(owner, profile):
            if runtime.container is None and not runtime.starting:
                # Its next start reads what the profile says by then; something may hold it for long, a backup say.
                continue
            name = runtime.record.name
            try:
                await self._roster.follow(name)
            except NotFoundError:
                # Deleted meanwhile.
                continue
            except LxdpyError as exc:
                failed.append(f"{plain_name(name)}: {exc}")
        if failed:
            raise ConflictError(
                f"The following instances failed to update (profile change still saved): {'; '.join(failed)}"
            )

    async def renamed(self, owner: str, profile: str, new_name: str, write: Write) -> None:
        """As `ProfileUsers.renamed`."""
        async with AsyncExitStack() as held:
            runtimes = self._with(owner, profile, snapshots=True)
            for runtime in runtimes:
                await held.enter_async_context(runtime.changing)
            # Some may have been deleted while we waited for the others: their rows must not be back.
            here = self._roster.runtimes
            runtimes = [runtime for runtime in runtimes if here.get(runtime.record.name) is runtime]
            records = [_with_profile_renamed(runtime.record, profile, new_name) for runtime in runtimes]
            snapshots = [
                tuple(
                    dataclasses.replace(snapshot, taken=_with_profile_renamed(snapshot.taken, profile, new_name))
                    for snapshot in runtime.snapshots
                )
                for runtime in runtimes
            ]

            def write_all(db: sqlite3.Connection) -> None:
                write(db)
                for record, of_record in zip(records, snapshots, strict=True):
                    table.put(db, record)
                    for snapshot in of_record:
                        snapshot_table.put(db, snapshot)

            await self._database.run(write_all)
            for runtime, record, of_record in zip(runtimes, records, snapshots, strict=True):
                runtime.record = record
                runtime.snapshots = of_record
                runtime.expanded = None
                self._roster.on_change(record.name)

    def _with(self, owner: str, profile: str, *, snapshots: bool = False) -> list[Runtime]:
        """Who has it; or had it, when a snapshot was taken."""
        return [
            runtime
            for runtime in self._roster.runtimes.values()
            if self._roster.owner_of_profiles(runtime) == owner
            and (
                profile in runtime.record.profiles
                or (snapshots and any(profile in snapshot.taken.profiles for snapshot in runtime.snapshots))
            )
        ]


def _with_profile_renamed(record: InstanceRecord, profile: str, new_name: str) -> InstanceRecord:
    profiles = tuple(new_name if name == profile else name for name in record.profiles)
    return dataclasses.replace(record, profiles=profiles)


def _read(db: sqlite3.Connection) -> list[Runtime]:
    """Every instance with its snapshots; those of earlier versions get writable layers that have names of their own."""
    snapshots: dict[str, list[SnapshotRecord]] = {}
    for snapshot in snapshot_table.load(db):
        snapshots.setdefault(snapshot.instance, []).append(snapshot)
    runtimes = []
    for record in table.load(db):
        if record.rw == OLD_RW:
            record = dataclasses.replace(record, rw=new_rw())
            table.put(db, record)
        runtimes.append(Runtime(record, tuple(snapshots.get(record.name, ()))))
    return runtimes
