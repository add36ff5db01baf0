"""Snapshots: taken, restored, renamed, deleted.

    of a stopped instance   its upper directory becomes a layer of the store by a rename; the snapshot and the instance
                            stand on it, and the instance writes into a new upper directory
    of a running instance   it is frozen while its upper directory is copied; the copy is the snapshot's layer, and the
                            instance goes on as it was
    restore                 the instance stands on the snapshot's layers, and writes into a new upper directory

Each is one commit. What comes after it the next start does if the daemon is killed: `recover`.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lxdpy.db.instances import InstanceRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.drivers.base import Store, is_upper_layer, rw_of, upper_layer_id
from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, NotFoundError
from lxdpy.project import instance_url, plain_name
from lxdpy.services import expiry
from lxdpy.services.events import Announce
from lxdpy.services.images import ImageService
from lxdpy.services.instances import schedule
from lxdpy.services.instances.directory import InstanceDirectories, new_rw
from lxdpy.services.instances.life import Life, Stop
from lxdpy.services.instances.model import Snapshot
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.settings import parse_bool
from lxdpy.services.instances.volatile import POWER, is_host_name, is_hwaddr
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

DEEP = 400
"""From so many layers on an instance's stack grows no more: overlayfs takes 500."""
MAX_LAYERS = 490
_MINUTE_S = 60.0

Spawn = Callable[[Coroutine[Any, Any, object]], None]


class Snapshots:
    """The snapshots of every instance."""

    def __init__(
        self,
        roster: Roster,
        life: Life,
        directories: InstanceDirectories,
        store: Store,
        images: ImageService,
        profiles: Profiles,
        announce: Announce,
        spawn: Spawn,
    ) -> None:
        """`spawn` runs a job in the background."""
        self._roster = roster
        self._life = life
        self._directories = directories
        self._store = store
        self._images = images
        self._profiles = profiles
        self._announce = announce
        self._spawn = spawn
        life.on_started = self._started

    # ---- reading

    def all(self, name: str) -> list[Snapshot]:
        """The snapshots of an instance, oldest first. Raises NotFoundError."""
        return [self._expanded(record) for record in self._roster.get(name).snapshots]

    def get(self, name: str, snapshot: str) -> Snapshot:
        """One snapshot. Raises NotFoundError."""
        return self._expanded(find(self._roster.get(name), snapshot))

    def _expanded(self, record: SnapshotRecord) -> Snapshot:
        return Snapshot(record, *self._roster.expand(self._with_profiles(record.taken)))

    def _with_profiles(self, taken: InstanceRecord) -> InstanceRecord:
        """What was taken, with those of its profiles that are still here."""
        known = {profile.name for profile in self._profiles.all(taken.project)}
        return dataclasses.replace(taken, profiles=tuple(name for name in taken.profiles if name in known))

    # ---- taking

    def check_new(self, name: str, snapshot: str) -> None:
        """Raises NotFoundError, InvalidRequestError for a name that can't be, ConflictError for one that is taken."""
        runtime = self._roster.get(name)
        if snapshot:
            expiry.check_name(snapshot)
            if any(known.name == snapshot for known in runtime.snapshots):
                raise ConflictError(f'Snapshot "{plain_name(name)}/{snapshot}" already exists')

    async def create(self, name: str, snapshot: str = "", expires_at: float | None = None) -> str:
        """Take a snapshot; without a name it gets one, which is returned. `expires_at` 0 is never, and None what
        `snapshots.expiry` says.

        Raises NotFoundError, ConflictError, InvalidRequestError, NoSpaceError, WorkerError.
        """
        async with self._roster.held(name) as runtime:
            self.check_new(name, snapshot)
            await runtime.cleared()
            config, _ = self._roster.expanded(runtime)
            now = time.time()
            if not snapshot:
                taken = [known.name for known in runtime.snapshots]
                snapshot = expiry.next_name(config.get("snapshots.pattern", ""), taken, now)
                expiry.check_name(snapshot)
            if expires_at is None:
                expires_at = expiry.expires_at(config.get("snapshots.expiry", ""), now)
            blank = SnapshotRecord(name, snapshot, now, expires_at, runtime.record)
            if self.can_settle(runtime):
                await uninterrupted(self.settle(runtime, blank))
            else:
                await self._take_by_copy(runtime, blank)
        self._announce("instance-snapshot-created", instance_url(name, "snapshots", snapshot))
        return snapshot

    def can_settle(self, runtime: Runtime) -> bool:
        """Whether what an instance wrote can become a layer: it is stopped, and its stack not deep yet."""
        return runtime.container is None and len(runtime.record.layers) < DEEP

    async def settle(self, runtime: Runtime, blank: SnapshotRecord | None = None) -> None:
        """Make what an instance wrote, which `can_settle` and is held, a layer that it stands on; in the same commit a
        snapshot, whose layers are that stack. Not to be interrupted."""
        name, old = runtime.record.name, runtime.record.rw
        upper = self._directories.upper(name, old)
        if await asyncio.to_thread(self._adds_nothing, runtime.record, upper):
            await self._roster.rewrite(runtime, lambda record, known: (record, known + _taken(blank, record)))
            return
        layer, fresh = upper_layer_id(old), new_rw()

        def grown(record: InstanceRecord) -> InstanceRecord:
            return dataclasses.replace(record, layers=(*record.layers, layer), rw=fresh)

        with self._images.garbage.pin((layer,), ()):
            await asyncio.to_thread(self._directories.add_rw, name, fresh)
            try:
                await asyncio.to_thread(self._directories.copy_attributes, upper, self._directories.upper(name, fresh))
                self._store.claim(layer)
                await self._roster.rewrite(
                    runtime, lambda record, known: (grown(record), known + _taken(blank, grown(record)))
                )
            except BaseException:
                await self.discard_rw(name, fresh)
                raise
            try:
                self._store.adopt(layer, upper)
            except BaseException:
                await self._roster.rewrite(
                    runtime,
                    lambda record, known: (
                        dataclasses.replace(record, layers=record.layers[:-1], rw=old),
                        tuple(snapshot for snapshot in known if blank is None or snapshot.name != blank.name),
                    ),
                )
                await self.discard_rw(name, fresh)
                raise
        self._spawn(self.discard_rw(name, old))

    def _adds_nothing(self, record: InstanceRecord, upper: Path) -> bool:
        """Whether an instance has written nothing since its upper directory last became a layer."""
        top = record.layers[-1] if record.layers else ""
        return is_upper_layer(top) and self._store.adds_nothing(top, upper)

    async def _take_by_copy(self, runtime: Runtime, blank: SnapshotRecord) -> None:
        name = runtime.record.name
        if (depth := len(runtime.record.layers)) >= MAX_LAYERS:
            raise InvalidRequestError(
                f'Cannot take a snapshot of instance "{plain_name(name)}": it stands on {depth} layers already'
            )
        copy = new_rw()
        layer = upper_layer_id(copy)
        try:
            await uninterrupted(asyncio.to_thread(self._directories.add_rw, name, copy, upper=False))
            async with self._life.still(runtime):
                await self._store.copy_directory(
                    self._directories.upper(name, runtime.record.rw), self._directories.upper(name, copy)
                )
            await self._store.sync()
            await uninterrupted(self._add_copied(runtime, blank, layer, self._directories.upper(name, copy)))
        finally:
            await self.discard_rw(name, copy)

    async def _add_copied(self, runtime: Runtime, blank: SnapshotRecord, layer: str, upper: Path) -> None:
        def with_copy(record: InstanceRecord) -> InstanceRecord:
            return dataclasses.replace(record, layers=(*record.layers, layer))

        with self._images.garbage.pin((layer,), ()):
            self._store.claim(layer)
            await self._roster.rewrite(
                runtime, lambda record, known: (record, known + _taken(blank, with_copy(record)))
            )
            try:
                self._store.adopt(layer, upper)
            except BaseException:
                await self._roster.rewrite(
                    runtime,
                    lambda record, known: (record, tuple(other for other in known if other.name != blank.name)),
                )
                raise

    # ---- restoring

    async def restore(self, name: str, snapshot: str) -> None:
        """Make an instance what it was; one that runs is stopped for it by force, and started again.

        Raises NotFoundError, ConflictError when it still runs or was started meanwhile, NoSpaceError, WorkerError.
        """
        runtime = self._roster.get(name)
        find(runtime, snapshot)
        ran = runtime.container is not None
        # Or an ephemeral one would be deleted when it stops.
        runtime.restarts += 1
        try:
            if ran:
                # It may have ended by itself meanwhile.
                with suppress(ConflictError):
                    await self._life.stop(name, Stop(force=True))
            async with self._roster.held(name) as held:
                if held.container is not None:
                    raise ConflictError(f'Cannot restore instance "{plain_name(name)}": it runs')
                await held.cleared()
                taken = self._with_profiles(find(held, snapshot).taken)
                with self._profiles.held(taken.project, taken.profiles):
                    await uninterrupted(self._restore(held, taken))
            if ran:
                await self._life.start(name)
        finally:
            runtime.restarts -= 1
        self._announce("instance-restored", instance_url(name), {"snapshot": f"{plain_name(name)}/{snapshot}"})

    async def _restore(self, runtime: Runtime, taken: InstanceRecord) -> None:
        await self.replace_rw(
            runtime,
            lambda record, known, fresh: (
                dataclasses.replace(
                    taken,
                    name=record.name,
                    rw=fresh,
                    created_at=record.created_at,
                    last_used_at=record.last_used_at,
                    config={key: value for key, value in record.config.items() if is_hwaddr(key)}
                    | {key: value for key, value in taken.config.items() if not is_host_name(key)}
                    | {POWER: "STOPPED"},
                ),
                known,
            ),
            taken.layers,
        )

    async def replace_rw(
        self,
        runtime: Runtime,
        change: Callable[
            [InstanceRecord, tuple[SnapshotRecord, ...], str], tuple[InstanceRecord, tuple[SnapshotRecord, ...]]
        ],
        layers: tuple[str, ...],
        fill: Callable[[Path], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Have a stopped instance, whose lock is held, write into another upper directory on `layers`, in the commit
        that `change` makes: it gets record, snapshots and the new `rw`. `fill` makes the directory; without it, it is
        empty."""
        name, old, fresh = runtime.record.name, runtime.record.rw, new_rw()
        try:
            await uninterrupted(asyncio.to_thread(self._directories.add_rw, name, fresh, upper=fill is None))
            upper = self._directories.upper(name, fresh)
            if fill is not None:
                await fill(upper)
            else:
                await uninterrupted(asyncio.to_thread(self.empty_upper, layers, upper))
            await self._roster.rewrite(runtime, lambda record, known: change(record, known, fresh))
        finally:
            # Whoever was cancelled may have committed it all the same.
            self._spawn(self.discard_rw(name, old if runtime.record.rw == fresh else fresh))
        self._spawn(self._images.garbage.collect())

    def empty_upper(self, layers: tuple[str, ...], upper: Path) -> None:
        """Make an empty upper directory look like what it is put on, if that was one itself."""
        if layers and is_upper_layer(layers[-1]):
            self._store.copy_root(layers[-1], upper)

    # ---- changing

    async def set_expiry(self, name: str, snapshot: str, expires_at: float) -> None:
        """Say when a snapshot expires; 0 is never. Raises NotFoundError."""
        async with self._roster.held(name) as runtime:
            old = find(runtime, snapshot)
            new = dataclasses.replace(old, expires_at=expires_at)
            await self._roster.rewrite(runtime, lambda record, known: (record, _replaced(known, old, new)))
        self._announce("instance-snapshot-updated", instance_url(name, "snapshots", snapshot))

    async def rename(self, name: str, snapshot: str, new_name: str) -> None:
        """Give a snapshot another name. Raises NotFoundError, InvalidRequestError, ConflictError."""
        async with self._roster.held(name) as runtime:
            old = find(runtime, snapshot)
            self.check_new(name, new_name)
            new = dataclasses.replace(old, name=new_name)
            await self._roster.rewrite(runtime, lambda record, known: (record, _replaced(known, old, new)))
        self._announce(
            "instance-snapshot-renamed",
            instance_url(name, "snapshots", new_name),
            {"old_name": f"{plain_name(name)}/{snapshot}"},
        )

    async def delete(self, name: str, snapshot: str) -> None:
        """Delete a snapshot, and what nothing else stands on. Raises NotFoundError."""
        async with self._roster.held(name) as runtime:
            old = find(runtime, snapshot)
            await self._roster.rewrite(
                runtime, lambda record, known: (record, tuple(other for other in known if other is not old))
            )
        self._announce("instance-snapshot-deleted", instance_url(name, "snapshots", snapshot))
        self._spawn(self._images.garbage.collect())

    # ---- by the clock

    async def keep_time(self) -> None:
        """Each minute delete what has expired and take what is due, for ever."""
        while True:
            await asyncio.sleep(_MINUTE_S - time.time() % _MINUTE_S)
            now = time.time()
            try:
                await self.expire(now)
                await self.take_due(datetime.fromtimestamp(now))
            except Exception:
                # The next minute has snapshots of its own.
                logger.exception("Cannot look after snapshots")

    def _started(self, name: str) -> None:
        if schedule.at_startup(self._config(name).get("snapshots.schedule", "")):
            self._spawn(self._take_by_itself(name))

    def _config(self, name: str) -> Mapping[str, str]:
        return self._roster.expanded(self._roster.get(name))[0]

    async def take_due(self, moment: datetime) -> None:
        """Take the snapshots that schedules want in this minute."""
        for name, runtime in list(self._roster.runtimes.items()):
            if self._roster.runtimes.get(name) is not runtime:
                # Deleted while those before it were taken.
                continue
            config, _ = self._roster.expanded(runtime)
            stopped = parse_bool(config.get("snapshots.schedule.stopped", ""))
            if (runtime.container or stopped) and schedule.due(config.get("snapshots.schedule", ""), moment):
                await self._take_by_itself(name)

    async def _take_by_itself(self, name: str) -> None:
        try:
            await self.create(name)
        except LxdpyError as exc:
            logger.error("Cannot take the snapshot of instance %s that is due: %s", name, exc)

    async def expire(self, now: float) -> None:
        """Delete the snapshots whose time has come."""
        due = [
            (runtime.record.name, snapshot.name)
            for runtime in list(self._roster.runtimes.values())
            for snapshot in runtime.snapshots
            if 0 < snapshot.expires_at <= now
        ]
        for name, snapshot in due:
            try:
                await self.delete(name, snapshot)
            except LxdpyError as exc:
                logger.error("Cannot delete expired snapshot %s/%s: %s", name, snapshot, exc)

    # ---- the daemon's start

    def recover(self) -> None:
        """Finish the renames that a dead daemon had committed to. Blocks."""
        for runtime in self._roster.runtimes.values():
            stacks = [runtime.record.layers, *(snapshot.taken.layers for snapshot in runtime.snapshots)]
            for layer in {layer for stack in stacks for layer in stack if is_upper_layer(layer)}:
                if self._store.layer(layer) is None:
                    self._finish(layer)

    def _finish(self, layer: str) -> None:
        found = self._directories.find_rw(rw_of(layer))
        if found is None or not (found / "upper").is_dir():
            logger.error("Layer %s is lost: there is no upper directory that it was to be made of", layer)
            return
        try:
            self._store.claim(layer)
            self._store.adopt(layer, found / "upper")
        except LxdpyError as exc:
            logger.error("Cannot make %s a layer: %s", found, exc)

    async def discard_rw(self, name: str, rw: str) -> None:
        """Remove a writable layer that counts no more, or never did."""
        trash = self._directories.discard_rw(name, rw)
        if trash is not None:
            await asyncio.to_thread(self._directories.remove, trash)


def find(runtime: Runtime, snapshot: str) -> SnapshotRecord:
    """A snapshot by name. Raises NotFoundError."""
    for known in runtime.snapshots:
        if known.name == snapshot:
            return known
    raise NotFoundError(f'Snapshot "{plain_name(runtime.record.name)}/{snapshot}" not found')


def _taken(blank: SnapshotRecord | None, record: InstanceRecord) -> tuple[SnapshotRecord, ...]:
    """The snapshot, if there is to be one."""
    return () if blank is None else (dataclasses.replace(blank, taken=dataclasses.replace(record, rw="")),)


def _replaced(
    known: tuple[SnapshotRecord, ...], old: SnapshotRecord, new: SnapshotRecord
) -> tuple[SnapshotRecord, ...]:
    return tuple(new if snapshot is old else snapshot for snapshot in known)
