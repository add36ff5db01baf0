"""Copies of instances and snapshots: they stand on the same layers, with upper directories of their own.

of a snapshot             an empty upper directory
of a stopped instance     the same, once what it wrote has become a layer, as for a snapshot
of a running instance     a copy of its upper directory, made while it is frozen

The instance's snapshots are rows.
"""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from lxdpy.db.instances import InstanceRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.drivers.base import Store
from lxdpy.errors import InvalidRequestError
from lxdpy.project import instance_url, plain_name
from lxdpy.services.events import Announce
from lxdpy.services.instances.directory import InstanceDirectories, new_rw
from lxdpy.services.instances.life import Life
from lxdpy.services.instances.model import CREATED, NewCopy
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.snapshots import Snapshots, find
from lxdpy.services.instances.templates import APPLY, new_instance_id
from lxdpy.services.instances.volatile import POWER, is_host_name, is_hwaddr
from lxdpy.services.uninterrupted import uninterrupted

_UUID = "volatile.uuid"
_KEPT = ("volatile.base_image", "volatile.container.oci")
"""What the daemon wrote of an instance and is true of its copies."""


class Copies:
    """Makes instances of instances."""

    def __init__(
        self,
        roster: Roster,
        life: Life,
        directories: InstanceDirectories,
        store: Store,
        snapshots: Snapshots,
        announce: Announce,
    ) -> None:
        self._roster = roster
        self._life = life
        self._directories = directories
        self._store = store
        self._snapshots = snapshots
        self._announce = announce

    async def create(self, new: NewCopy) -> None:
        """Make the copy, whose name nobody else has. Raises NotFoundError, ConflictError when the source was stopped or
        thawed while it was copied, NoSpaceError, WorkerError."""
        async with self._roster.held(new.source) as source:
            base, is_whole = await self._base(source, new)
            record = copied(base, new)
            fresh, origin = self._directories.temporary(), self._directories.path(new.source)
            try:
                await uninterrupted(asyncio.to_thread(self._directories.draft, fresh, new.name, record.rw, origin))
                upper = fresh / record.rw / "upper"
                if is_whole:
                    await uninterrupted(asyncio.to_thread(self._empty, record, upper))
                else:
                    await self._fill(source, upper)
                runtime = Runtime(record, _of(source, new))
                await uninterrupted(self._add(runtime, fresh))
            except BaseException:
                await asyncio.to_thread(self._directories.scrap, fresh)
                raise
        self._announce("instance-created", instance_url(new.name), CREATED)
        for snapshot in runtime.snapshots:
            self._announce("instance-snapshot-created", instance_url(new.name, "snapshots", snapshot.name))

    async def refresh(self, new: NewCopy) -> None:
        """Make the files and snapshots of an instance that is here those of the source; its settings stay.

        Raises NotFoundError, InvalidRequestError when it runs, and what `create` raises.
        """
        if new.name == new.source:
            raise InvalidRequestError(f'Cannot refresh instance "{plain_name(new.name)}" from itself')
        async with AsyncExitStack() as stack:
            held = {name: await stack.enter_async_context(self._roster.held(name)) for name in sorted(_both(new))}
            source, target = held[new.source], held[new.name]
            if target.container is not None:
                raise InvalidRequestError("Cannot refresh a running instance")
            await target.cleared()
            base, is_whole = await self._base(source, new)
            snapshots = _of(source, new)

            def change(
                record: InstanceRecord, _: tuple[SnapshotRecord, ...], rw: str
            ) -> tuple[InstanceRecord, tuple[SnapshotRecord, ...]]:
                changed = dataclasses.replace(
                    base,
                    name=record.name,
                    description=record.description,
                    ephemeral=record.ephemeral,
                    config=record.config,
                    devices=record.devices,
                    profiles=record.profiles,
                    created_at=record.created_at,
                    last_used_at=record.last_used_at,
                    rw=rw,
                )
                return changed, snapshots

            async def fill(upper: Path) -> None:
                await self._fill(source, upper)

            await self._snapshots.replace_rw(target, change, base.layers, None if is_whole else fill)
        self._announce("instance-updated", instance_url(new.name))

    async def _base(self, source: Runtime, new: NewCopy) -> tuple[InstanceRecord, bool]:
        """What to copy, and whether its layers are all of it."""
        if new.snapshot:
            return find(source, new.snapshot).taken, True
        await source.cleared()
        is_whole = self._snapshots.can_settle(source)
        if is_whole:
            await uninterrupted(self._snapshots.settle(source))
        return source.record, is_whole

    def _empty(self, record: InstanceRecord, upper: Path) -> None:
        upper.mkdir()
        upper.chmod(0o755)
        self._snapshots.empty_upper(record.layers, upper)

    async def _fill(self, source: Runtime, upper: Path) -> None:
        async with self._life.still(source):
            await self._store.copy_directory(self._directories.upper(source.record.name, source.record.rw), upper)
        await self._store.sync()

    async def _add(self, runtime: Runtime, fresh: Path) -> None:
        name = runtime.record.name
        await asyncio.to_thread(self._directories.publish, name, fresh)
        try:
            await self._roster.add(runtime)
        except BaseException:
            if trash := self._directories.discard(name):
                await asyncio.to_thread(self._directories.remove, trash)
            raise


def copied(base: InstanceRecord, new: NewCopy) -> InstanceRecord:
    """The record of a copy."""
    # A system's templates are filled in for the new one.
    templates = {APPLY: "copy"} if base.config_digest is None else {}
    made = {**new_instance_id(), POWER: "STOPPED", _UUID: str(uuid.uuid4())}
    given = {key: value for key, value in new.config.items() if not is_host_name(key)}
    return dataclasses.replace(
        base,
        name=new.name,
        description=new.description,
        ephemeral=new.ephemeral,
        config=_inherited(base.config) | given | templates | made,
        devices={**base.devices, **new.devices},
        profiles=base.profiles if new.profiles is None else new.profiles,
        created_at=time.time(),
        last_used_at=0.0,
        rw=new_rw(),
    )


def _inherited(config: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in config.items() if not key.startswith("volatile.") or key in _KEPT}


def _both(new: NewCopy) -> set[str]:
    return {new.name, new.source}


def _of(source: Runtime, new: NewCopy) -> tuple[SnapshotRecord, ...]:
    """The snapshots of the copy."""
    if new.snapshot or new.instance_only:
        return ()
    return tuple(_without_addresses(snapshot.of(new.name)) for snapshot in source.snapshots)


def _without_addresses(snapshot: SnapshotRecord) -> SnapshotRecord:
    """A snapshot that leaves a copy, when it is restored, the addresses that the copy has."""
    config = {key: value for key, value in snapshot.taken.config.items() if not is_hwaddr(key)}
    return dataclasses.replace(snapshot, taken=dataclasses.replace(snapshot.taken, config=config))
