"""The disks of instances: checked against what storage there is, shown at the start, changed while an instance runs."""

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

from lxdpy.db.instances import Devices
from lxdpy.drivers.base import DiskSpec
from lxdpy.errors import NotFoundError
from lxdpy.project import in_project, instance_url
from lxdpy.services.instances import disks
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.projects import Feature, ProjectService
from lxdpy.services.storage import StorageService, User, VolumeKey


class Mounting:
    """Every instance's disks."""

    def __init__(self, storage: StorageService, projects: ProjectService, profiles: Profiles, roster: Roster) -> None:
        self._storage = storage
        self._projects = projects
        self._profiles = profiles
        self._roster = roster
        storage.add_users(self._users)
        storage.volumes.on_rename(self._renamed)

    def check(self, project: str, own: Devices, before: Devices | None, after: Devices) -> None:
        """Refuse disks that can't be: `own` are an instance's devices, `before` and `after` what they expand to.

        A new instance (`before` is None) is given a root disk later. Raises InvalidRequestError, NotFoundError.
        """
        before = before or {}
        disks.check_paths(own)
        disks.check_paths(after)
        # Instances of an lxdpy that knew no pools may be without.
        if disks.root_of(before) is not None or disks.root_of(after) is not None:
            disks.check_root(after)
        disks.check_sources(self._storage, self._owner(project), before, after)

    @asynccontextmanager
    async def starting(self, runtime: Runtime) -> AsyncIterator[tuple[Devices, tuple[DiskSpec, ...]]]:
        """The devices of an instance that is about to start, and what it shows of them; volumes stay as they are
        meanwhile. Raises NotFoundError."""
        owner = self._owner(runtime.record.project)
        while True:
            _, devices = self._roster.expanded(runtime)
            async with self._storage.volumes.held(disks.volumes(devices, owner)):
                if self._roster.expanded(runtime)[1] != devices:
                    # A volume was renamed while we waited for it.
                    continue
                yield devices, disks.specs(self._storage, owner, devices)
                return

    @asynccontextmanager
    async def changed(self, runtime: Runtime, after: Devices) -> AsyncIterator[None]:
        """Bring an instance's disks to a new set of expanded devices, at once while it runs. The caller holds the
        instance's lock; what it raises takes the change back. Raises NotFoundError, InvalidRequestError, WorkerError.
        """
        before, container = runtime.disks, runtime.container
        gone, come = disks.changes(before, after)
        if container is None or not (gone or come):
            yield
            return
        owner = self._owner(runtime.record.project)
        async with self._storage.volumes.held(disks.volumes(come, owner)):
            old, new = self._gone(owner, gone), disks.specs(self._storage, owner, come)
            await container.change_disks(old, new)
            runtime.disks = disks.shown(after)
            try:
                yield
            except BaseException:
                await container.change_disks(new, old)
                runtime.disks = before
                raise

    def _gone(self, owner: str, devices: Devices) -> list[DiskSpec]:
        """What is to be taken away; its source may not be there any more."""
        found: list[DiskSpec] = []
        for name, device in devices.items():
            try:
                found += disks.specs(self._storage, owner, {name: device})
            except NotFoundError:
                found.append(DiskSpec(name, "", disks.target_of(device)))
        return found

    def _owner(self, project: str) -> str:
        """The project whose volumes an instance's devices mean."""
        return self._projects.owner(project, Feature.VOLUMES)

    def _users(self) -> Iterator[User]:
        """Everything whose devices may need pools and volumes."""
        for name, runtime in self._roster.runtimes.items():
            _, devices = self._roster.expanded(runtime)
            # A profile may have changed since the start.
            shown = {f"{device}, shown": value for device, value in runtime.disks.items()}
            owner = self._owner(runtime.record.project)
            yield User(
                instance_url(name),
                owner,
                {**shown, **devices},
                running=runtime.container is not None,
                snapshots=tuple(instance_url(name, "snapshots", each.name) for each in runtime.snapshots),
            )
        for profile in self._profiles.everywhere():
            path = in_project(f"/1.0/profiles/{profile.name}", profile.project)
            yield User(path, self._owner(profile.project), profile.devices, is_profile=True)

    async def _renamed(self, old: VolumeKey, new: VolumeKey) -> None:
        """Let devices show a volume by its new name."""
        for runtime in list(self._roster.runtimes.values()):
            # It may have been deleted while those before it were changed.
            if self._roster.runtimes.get(runtime.record.name) is not runtime:
                continue
            if self._owner(runtime.record.project) == old.project:
                with suppress(NotFoundError):
                    await self._roster.change(
                        runtime,
                        lambda record: dataclasses.replace(
                            record, devices=disks.renamed(record.devices, old.pool, old.name, new.name)
                        ),
                    )
        for profile in self._profiles.everywhere():
            devices = disks.renamed(profile.devices, old.pool, old.name, new.name)
            if self._owner(profile.project) == old.project and devices != profile.devices:
                await self._profiles.change_devices(profile.project, profile.name, devices)
