"""Instances: made of images, started, stopped, changed, deleted.

Order on disk and in the database, so that a kill at any line leaves nothing that the next start can't put right: the
directory comes before the row, the row goes before the directory.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from lxdpy.config import Config
from lxdpy.db.connection import Database
from lxdpy.db.images import ImageKind
from lxdpy.db.instances import Devices
from lxdpy.drivers.base import Containers, Probe, Renderer, RunningContainer, Store, is_upper_layer
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, LxdpyError, NotFoundError
from lxdpy.progress import Progress
from lxdpy.project import in_project, instance_url, plain_name, project_of, split
from lxdpy.services.background import Background
from lxdpy.services.events import Announce
from lxdpy.services.images import FoundImage, ImageService, Uses
from lxdpy.services.instances import importing, renaming, settings
from lxdpy.services.instances.attach import ConsoleSession
from lxdpy.services.instances.backup_index import Described
from lxdpy.services.instances.backups import Backups
from lxdpy.services.instances.copying import Copies
from lxdpy.services.instances.directory import InstanceDirectories
from lxdpy.services.instances.exec import ExecRequest, ExecSession
from lxdpy.services.instances.files import InstanceFiles
from lxdpy.services.instances.importing import Importer, NewImport
from lxdpy.services.instances.keeping import InstanceMetadata
from lxdpy.services.instances.life import Life, Stop
from lxdpy.services.instances.logs import InstanceLogs
from lxdpy.services.instances.making import Maker
from lxdpy.services.instances.model import Action, Instance, InstanceSettings, InstanceState, NewCopy, NewInstance
from lxdpy.services.instances.mounting import Mounting
from lxdpy.services.instances.names import Names
from lxdpy.services.instances.process import Process
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.publish import Publisher
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.snapshots import Snapshots
from lxdpy.services.instances.templates import Templates, instance_id_for
from lxdpy.services.instances.volatile import merged
from lxdpy.services.networks import NetworkService
from lxdpy.services.projects import Feature, ProjectService
from lxdpy.services.storage import Holding, StorageService
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)


class InstanceService:
    """Every instance of this host."""

    def __init__(
        self,
        config: Config,
        database: Database,
        store: Store,
        containers: Containers,
        probe: Probe,
        renderer: Renderer,
        images: ImageService,
        networks: NetworkService,
        storage: StorageService,
        projects: ProjectService,
        profiles: Profiles,
        announce: Announce,
    ) -> None:
        self._database = database
        self._probe = probe
        self._images = images
        self._networks = networks
        self._projects = projects
        self._profiles = profiles
        self._announce = announce
        self._directories = InstanceDirectories(config.state_dir)
        self._roster = Roster(database, images, profiles)
        self._mounting = Mounting(storage, projects, profiles, self._roster)
        self._life = Life(
            config,
            self._roster,
            self._mounting,
            self._directories,
            store,
            containers,
            images,
            networks,
            announce,
            Templates(renderer),
            self._ephemeral_ended,
            self._rebooted,
        )
        self.files = InstanceFiles(self._roster, self._life.open_files, self._life.ids, announce)
        self.metadata = InstanceMetadata(self._roster, self._directories, announce)
        """What each instance keeps of its image."""
        self.publisher = Publisher(self._roster, self._directories, store, images)
        self._runtimes = self._roster.runtimes
        self._names = Names(self._roster, projects)
        self._background = Background()
        self._spawn = self._background.spawn
        self.logs = InstanceLogs(self._roster, self._directories, announce)
        self._maker = Maker(self._roster, self._directories, images, profiles, announce, self._spawn)
        self._deletions: dict[str, asyncio.Task[object]] = {}
        """Of ephemeral instances that have ended."""
        self.snapshots = Snapshots(
            self._roster, self._life, self._directories, store, images, profiles, announce, self._spawn
        )
        self._copies = Copies(self._roster, self._life, self._directories, store, self.snapshots, announce)
        self._roster.follow = self._follow_profiles
        self.backups = Backups(
            database,
            self._roster,
            self._life,
            self._directories,
            store,
            images,
            profiles,
            announce,
            config.state_dir,
        )
        self._importer = Importer(
            self._roster,
            self._directories,
            store,
            images,
            profiles,
            announce,
            lambda: self._spawn(self._images.garbage.collect()),
        )
        networks.add_users(self._network_users)
        projects.add_user(self._in_project)
        projects.add_user(images.paths_in)
        storage.add_holdings(self._storage_holdings)
        images.garbage.add_referrer(self._uses)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with a name whenever what `get` says of that instance changes."""
        self._roster.on_change = listener

    # ---- life of the daemon

    async def load(self) -> None:
        """Read the database, finish or sweep what a dead daemon left, and take over containers that run."""
        await self._roster.load()
        layers = {name: runtime.record.rw for name, runtime in self._runtimes.items()}
        await asyncio.to_thread(self._directories.recover, layers)
        self.snapshots.recover()
        for leftover in await asyncio.to_thread(self._directories.sweep, layers):
            self._spawn(asyncio.to_thread(self._directories.remove, leftover))
        await asyncio.gather(*(self._life.adopt(runtime) for runtime in self._runtimes.values()))
        await self.backups.load()
        # What an earlier daemon no longer came to: the layers of what it had deleted.
        self._spawn(self._images.garbage.collect())
        self._spawn(self.snapshots.keep_time())
        self._spawn(self.backups.keep_time())

    async def close(self) -> None:
        """Stop watching; containers go on."""
        await asyncio.gather(*(runtime.files.end() for runtime in self._runtimes.values()), return_exceptions=True)
        watchers = [runtime.watcher for runtime in self._runtimes.values() if runtime.watcher]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(self._background.cancel(), *watchers, return_exceptions=True)

    # ---- reading

    def names(self, project: str | None = None) -> list[str]:
        """Names of the instances of one project, or of all, project by project."""
        return sorted((name for name in self._runtimes if project is None or project_of(name) == project), key=split)

    def get(self, name: str) -> Instance:
        """One instance. Raises NotFoundError."""
        runtime = self._roster.get(name)
        config, devices = self._roster.expanded(runtime)
        return Instance(runtime.record, config, devices, runtime.status)

    def _in_project(self, project: str) -> list[str]:
        """API paths of a project's instances, those that are being made among them."""
        return [instance_url(name) for name in sorted(self._names.taken()) if project_of(name) == project]

    def state(self, name: str) -> InstanceState:
        """Its numbers now. Raises NotFoundError."""
        runtime = self._roster.get(name)
        container = runtime.container
        if container is None:
            return InstanceState(runtime.status, 0, None, runtime.exit, None)
        usage = self._probe.usage(container.init_pid, self._life.cgroup(name))
        return InstanceState(runtime.status, container.init_pid, container.started_at, None, usage)

    def states(self) -> dict[str, InstanceState]:
        """The numbers of every instance, read together."""
        running = [(name, r.container) for name, r in self._runtimes.items() if r.container is not None]
        usages = self._probe.usages([(container.init_pid, self._life.cgroup(name)) for name, container in running])
        states = {name: InstanceState(r.status, 0, None, r.exit, None) for name, r in self._runtimes.items()}
        for (name, container), usage in zip(running, usages, strict=True):
            status = self._runtimes[name].status
            states[name] = InstanceState(status, container.init_pid, container.started_at, None, usage)
        return states

    def running(self, name: str) -> RunningContainer:
        """The container of a running instance. Raises NotFoundError, InvalidRequestError when stopped or frozen."""
        runtime = self._roster.get(name)
        if runtime.container is None:
            raise InvalidRequestError("Instance is not running")
        if runtime.frozen:
            raise InvalidRequestError("Instance is frozen")
        return runtime.container

    def exec(self, name: str, wanted: ExecRequest) -> ExecSession:
        """A command in a running instance; user, directory and variables not asked for are those of its own process.

        Raises NotFoundError, InvalidRequestError when it does not run, is frozen, or the command can't be.
        """
        runtime = self._roster.get(name)
        container = self.running(name)
        own = self._roster.process(runtime)
        request = dataclasses.replace(
            wanted,
            environment={**_user_of(own, wanted), **dict(own.commands_environment), **wanted.environment},
            user=wanted.user or own.user,
            cwd=wanted.cwd or own.commands_cwd,
        )
        session = ExecSession(container, request, self._directories.path(name) / "logs")
        self._announce("instance-exec", instance_url(name), {"command": list(wanted.argv)})
        return session

    def attach(self, name: str, width: int, height: int, *, force: bool) -> ConsoleSession:
        """Attach a client to the console of a running instance; by force, whoever is there must go.

        Raises NotFoundError, InvalidRequestError when it does not run or is frozen, BusyError.
        """
        container = self.running(name)
        runtime = self._roster.get(name)
        former = runtime.console
        if former is not None and former.done:
            former = None
        if former is not None:
            if not force:
                raise BusyError(
                    f'Cannot attach to the console of instance "{plain_name(name)}": a client is attached already, '
                    "and force would replace it"
                )
            former.detach()
        runtime.console = ConsoleSession(container, width, height, former)
        self._announce("instance-console", instance_url(name), {"type": "console"})
        return runtime.console

    async def wait(self, name: str, timeout_s: float | None) -> InstanceState:
        """Wait until it is stopped and everything of it is cleared, or the time is over. Raises NotFoundError."""
        runtime = self._roster.get(name)
        if runtime.watcher is not None:
            await asyncio.wait([runtime.watcher], timeout=timeout_s)
        container = runtime.container
        if container is not None:
            return InstanceState(runtime.status, container.init_pid, container.started_at, None, None)
        return InstanceState(runtime.status, 0, None, runtime.exit, None)

    def _network_users(self) -> Iterator[tuple[str, Devices]]:
        """Paths of all that has devices, with these."""
        for name, runtime in self._runtimes.items():
            yield instance_url(name), self._roster.expanded(runtime)[1]
        for profile in self._profiles.everywhere():
            yield in_project(f"/1.0/profiles/{profile.name}", profile.project), profile.devices

    # ---- making and deleting

    def reserve(self, new: NewInstance) -> NewInstance:
        """Check a request and hold its name until `create` ends or `unreserve` is called.

        A request without a plain name is given one: what is returned has it.
        Raises InvalidRequestError, UnsupportedError, NotFoundError (profile), ConflictError when the name is taken.
        """
        project = project_of(new.name)
        self._check(project, new.settings.config, new.settings.devices, new.settings.profiles)
        return dataclasses.replace(new, name=self._names.reserve(new.name))

    def check_free(self, name: str) -> None:
        """Refuse a name below the API that no instance can get. Raises InvalidRequestError, ConflictError."""
        self._names.check_free(name)

    def unreserve(self, name: str) -> None:
        """Give a name back that no `create` will use."""
        self._names.release(name)

    async def create(self, new: NewInstance, image: FoundImage, progress: Progress) -> None:
        """Make the instance that `reserve` accepted of an image, pulling that first when it is not here.

        When its start fails the instance stays; when the caller is cancelled nothing but the image does.
        """
        try:
            record = image.record
            where = self._projects.owner(project_of(new.name), Feature.IMAGES)
            if record is None or where not in record.projects:
                record = await self._images.fetch_for_instance(image, progress, where)
            new = self._maker.with_profiles(new, record)
            if record.kind is ImageKind.LXD:
                # Its metadata is beside its layer.
                await self._images.ensure_layers(record)
            with (
                self._images.garbage.pin(record.layers, record.blobs),
                self._profiles.held(project_of(new.name), new.settings.profiles),
            ):
                if record.fingerprint and not self._images.has(record.fingerprint):
                    # Deleted since it was found: its layers may be gone.
                    raise NotFoundError(f'Image "{record.fingerprint}" not found')
                await uninterrupted(self._maker.create(new, record))
            if new.start:
                await self._life.start(new.name)
        except asyncio.CancelledError:
            await self._undo(new.name)
            raise
        finally:
            self.unreserve(new.name)

    async def _undo(self, name: str) -> None:
        """Delete what was made, even if it runs already."""
        if name in self._runtimes:
            with suppress(ConflictError, NotFoundError):
                await self._life.stop(name, Stop(force=True))
            with suppress(NotFoundError):
                await self.delete(name)

    def reserve_copy(self, new: NewCopy) -> NewCopy:
        """As `reserve`, for `copy`; the name of an instance that is to be refreshed is not held. Raises NotFoundError
        for a source that is not there, too."""
        source = self._roster.get(new.source)
        if new.snapshot:
            self.snapshots.get(new.source, new.snapshot)
        profiles = source.record.profiles if new.profiles is None else new.profiles
        self._check(project_of(new.name), new.config, new.devices, profiles)
        if new.refresh and new.name in self._runtimes:
            if self._runtimes[new.name].container is not None:
                raise InvalidRequestError("Cannot refresh a running instance")
            return new
        return dataclasses.replace(new, name=self._names.reserve(new.name), refresh=False)

    async def copy(self, new: NewCopy) -> None:
        """Make the copy that `reserve_copy` accepted; when the caller is cancelled there is none."""
        if new.refresh:
            await self._copies.refresh(new)
            return
        profiles = new.profiles if new.profiles is not None else self._roster.get(new.source).record.profiles
        try:
            with self._profiles.held(project_of(new.name), profiles):
                await self._copies.create(dataclasses.replace(new, profiles=profiles))
            if new.start:
                await self._life.start(new.name)
        except asyncio.CancelledError:
            await self._undo(new.name)
            raise
        finally:
            self.unreserve(new.name)

    def check_rename(self, name: str, new_name: str) -> None:
        """Raises NotFoundError, InvalidRequestError for a name that can't be or while the instance runs, ConflictError
        for one that is taken. To another project it is a move: what it has of profiles must be there, too."""
        runtime = self._roster.get(name)
        settings.check_name(plain_name(new_name))
        if new_name in self._names.taken():
            raise ConflictError(f'Name "{plain_name(new_name)}" already in use')
        if runtime.container is not None:
            raise InvalidRequestError("Renaming of running container not allowed")
        project = project_of(new_name)
        if project != runtime.record.project:
            for profile in runtime.record.profiles:
                self._profiles.get(project, profile)
            self._names.check_room(project)

    async def rename(self, name: str, new_name: str, *, instance_only: bool = False) -> None:
        """Give a stopped instance another name, be it in another project; with `instance_only` without its snapshots.

        Raises what `check_rename` does, and WorkerError.
        """
        self.check_rename(name, new_name)
        self._names.hold(new_name)
        try:
            with self._profiles.held(project_of(new_name), self._roster.get(name).record.profiles):
                await renaming.rename(
                    self._roster,
                    self._directories,
                    self._networks,
                    self.backups.renamed,
                    name,
                    new_name,
                    instance_only=instance_only,
                )
        finally:
            self.unreserve(new_name)
        if instance_only:
            self._spawn(self._images.garbage.collect())
        self._announce("instance-renamed", instance_url(new_name), {"old_name": plain_name(name)})

    def check_delete(self, name: str) -> None:
        """Raises NotFoundError, and InvalidRequestError while the instance runs."""
        if self._roster.get(name).container is not None:
            raise InvalidRequestError("Instance is running")

    async def delete(self, name: str) -> None:
        """Delete a stopped instance and all it wrote. Raises NotFoundError, InvalidRequestError when it runs."""
        async with self._roster.held(name) as runtime:
            self.check_delete(name)
            await runtime.cleared()
            await uninterrupted(self._delete(runtime))

    async def _delete(self, runtime: Runtime) -> None:
        name = runtime.record.name
        await self._roster.remove(runtime)
        if leases := self._networks.forget(name):
            self._spawn(self._networks.withdraw(leases))
        for snapshot in runtime.snapshots:
            self._announce("instance-snapshot-deleted", instance_url(name, "snapshots", snapshot.name))
        self._announce("instance-deleted", instance_url(name))
        stacks = [runtime.record.layers, *(snapshot.taken.layers for snapshot in runtime.snapshots)]
        if not self._images.has(runtime.record.fingerprint) or any(is_upper_layer(id) for s in stacks for id in s):
            self._spawn(self._images.garbage.collect())
        if trash := self._directories.discard(name):
            self._spawn(asyncio.to_thread(self._directories.remove, trash))
        await self.backups.forget(name)

    async def import_backup(self, new: NewImport) -> str:
        """Make an instance of a backup; its name below the API. Raises what `Importer.run` does."""
        return await self._importer.run(new, self._reserve_import, self.unreserve)

    def _reserve_import(self, name: str, described: Described) -> str:
        config, devices = importing.settings_of(described)
        system = "volatile.container.oci" not in config
        self._check(project_of(name), config, devices, described.profiles, system=system)
        return self._names.reserve(name)

    # ---- changing

    async def update(self, name: str, wanted: Callable[[Instance], InstanceSettings]) -> None:
        """Replace what a client may write; limits, NICs and disks change at once, what else concerns the container at
        its next start.

        `wanted` is asked while nothing else changes the instance; what it raises is raised. Raises NotFoundError,
        InvalidRequestError, UnsupportedError.
        """
        async with self._roster.held(name) as runtime:
            new = wanted(self.get(name))
            self._check_change(runtime, new)
            project = runtime.record.project
            with self._profiles.held(project, new.profiles):
                expanded, devices = self._profiles.expand(project, new.profiles, new.config, new.devices)
                async with (
                    self._life.limited(runtime, expanded),
                    self._life.remounted(runtime, devices),
                    self._life.rewired(runtime, devices) as changes,
                ):
                    running = runtime.container is not None
                    await self._roster.change(
                        runtime,
                        lambda record: dataclasses.replace(
                            record,
                            description=new.description,
                            ephemeral=new.ephemeral,
                            config=_merged(
                                merged(record.config, running=running, given=new.config),
                                {**changes, **instance_id_for(record.config, new.config)},
                            ),
                            devices=new.devices,
                            profiles=new.profiles,
                        ),
                    )
        self._announce("instance-updated", instance_url(name))

    async def _follow_profiles(self, name: str) -> None:
        """Bring a running instance to what its profiles give it now. Raises NotFoundError, and what plugging and
        limiting do."""
        async with self._roster.held(name) as runtime:
            _, devices = self._roster.expanded(runtime)
            async with self._life.remounted(runtime, devices), self._life.rewired(runtime, devices) as volatile:
                if volatile:
                    await self._roster.change(
                        runtime,
                        lambda record: dataclasses.replace(record, config=_merged(record.config, volatile)),
                    )
            await self._life.limit(runtime)

    def check_update(self, name: str, new: InstanceSettings) -> None:
        """Raises what `update` would for these settings."""
        self._check_change(self._roster.get(name), new)

    def _check_change(self, runtime: Runtime, new: InstanceSettings) -> None:
        record = runtime.record
        if new.architecture not in ("", record.architecture):
            raise InvalidRequestError(
                f'Cannot change the architecture of instance "{record.plain_name}" from {record.architecture} to '
                f"{new.architecture:.50}: its root file system stays what it is"
            )
        _, before = self._roster.expanded(runtime)
        self._check(record.project, new.config, new.devices, new.profiles, system=runtime.is_system, before=before)

    def _check(
        self,
        project: str,
        config: Mapping[str, str],
        devices: Devices,
        profiles: Sequence[str],
        *,
        system: bool = False,
        before: Devices | None = None,
    ) -> None:
        """Raises InvalidRequestError, UnsupportedError for what can't be, NotFoundError for unknown profiles, networks.

        `before` are the expanded devices of an instance that there is already.
        """
        settings.check_config(config, system=system)
        settings.check_devices(devices)
        self._networks.check({name: device for name, device in devices.items() if (before or {}).get(name) != device})
        _, expanded = self._profiles.expand(project, tuple(profiles), config, devices)
        self._mounting.check(project, devices, before, expanded)
        if len(set(profiles)) < len(profiles):
            raise InvalidRequestError("Duplicate profile found in request")

    # ---- life

    async def act(self, name: str, action: Action, stop: Stop) -> None:
        """Change what an instance does. Raises NotFoundError, InvalidRequestError, ConflictError, WorkerError."""
        match action:
            case Action.START:
                await self._life.start(name)
            case Action.STOP:
                await self.stop(name, stop)
            case Action.RESTART:
                await self._life.restart(name, stop)
            case Action.FREEZE:
                await self._life.freeze(name)
            case Action.UNFREEZE:
                await self._life.unfreeze(name)

    async def start(self, name: str) -> None:
        """As `Life.start`."""
        await self._life.start(name)

    async def stop(self, name: str, how: Stop) -> None:
        """As `Life.stop`; an ephemeral instance is gone then, and its name free."""
        runtime = self._roster.get(name)
        await self._life.stop(name, how)
        if runtime.record.ephemeral:
            if runtime.watcher is not None:
                await asyncio.wait([runtime.watcher])
            if (deletion := self._deletions.get(name)) is not None:
                await asyncio.wait([deletion])

    # ---- storage

    def _storage_holdings(self) -> Iterator[Holding]:
        """Instances and images, as what the default pool holds."""
        for name, runtime in self._runtimes.items():
            record = runtime.record
            yield Holding("container", record.project, plain_name(name), instance_url(name), record.created_at)
        for image in self._images.all():
            fingerprint = image.fingerprint
            for project in image.projects:
                path = in_project(f"/1.0/images/{fingerprint}", project)
                yield Holding("image", project, fingerprint, path, image.uploaded_at)

    def _uses(self) -> Iterable[Uses]:
        """What instances and snapshots stand on."""
        for runtime in self._runtimes.values():
            for record in (runtime.record, *(snapshot.taken for snapshot in runtime.snapshots)):
                yield record.layers, record.blobs

    # ---- background

    def _ephemeral_ended(self, name: str) -> None:
        self._deletions[name] = self._background.start(self._delete_ephemeral(name))

    def _rebooted(self, name: str) -> None:
        self._spawn(self._reboot(name))

    async def _reboot(self, name: str) -> None:
        try:
            await self._life.reboot(name)
        except LxdpyError as exc:
            logger.error("Instance %s has rebooted, and is not started again: %s", name, exc)

    async def _delete_ephemeral(self, name: str) -> None:
        try:
            await self.delete(name)
        except (NotFoundError, InvalidRequestError) as exc:
            logger.info("Ephemeral instance %s is not deleted: %s", name, exc)
        finally:
            if self._deletions.get(name) is asyncio.current_task():
                del self._deletions[name]


def _merged(config: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """A configuration with changes; an empty value removes a key."""
    gone = {key for key, value in changes.items() if not value}
    return {key: value for key, value in {**config, **changes}.items() if key not in gone}


def _user_of(own: Process, wanted: ExecRequest) -> dict[str, str]:
    """The variable that LXD gives commands of a system's root."""
    return {"USER": "root"} if own.is_system and not wanted.uid and not wanted.user else {}
