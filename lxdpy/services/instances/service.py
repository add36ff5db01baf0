"""Instances: made of images, started, stopped, changed, deleted.

Order on disk and in the database, so that a kill at any line leaves nothing that the next start can't put right: the
directory comes before the row, the row goes before the directory.
"""

import asyncio
import dataclasses
import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from lxdpy.config import DEFAULT_STATE_DIR, Config
from lxdpy.db import instances as table
from lxdpy.db.connection import Database
from lxdpy.db.images import ImageRecord
from lxdpy.db.instances import InstanceRecord
from lxdpy.drivers.base import (
    BindFile,
    Containers,
    IdMap,
    Probe,
    RunningContainer,
    StartSpec,
    Store,
)
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, NotFoundError
from lxdpy.progress import Progress
from lxdpy.services.events import Announce
from lxdpy.services.images import FoundImage, ImageService
from lxdpy.services.instances import names, nics, settings
from lxdpy.services.instances.console import ConsoleLog
from lxdpy.services.instances.directory import InstanceDirectories
from lxdpy.services.instances.exec import ExecRequest, ExecSession
from lxdpy.services.instances.model import (
    Action,
    Instance,
    InstanceSettings,
    InstanceState,
    NewInstance,
)
from lxdpy.services.instances.process import Process, image_defaults, process
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.networks import NetworkService
from lxdpy.services.networks import files as network_files

logger = logging.getLogger(__name__)

KILL_TIMEOUT_S = 30.0
_POWER = "volatile.last_state.power"
DEFAULT_STOP_TIMEOUT_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """How to stop: a signal and a time, or force; `kill` forces it when the time is over."""

    force: bool = False
    timeout_s: float | None = None
    """None waits as long as it takes."""
    signal: int | None = None
    """None: the image's stop signal."""
    kill: bool = False


class InstanceService:
    """Every instance of this host."""

    def __init__(
        self,
        config: Config,
        database: Database,
        store: Store,
        containers: Containers,
        probe: Probe,
        images: ImageService,
        networks: NetworkService,
        profiles: Profiles,
        announce: Announce,
    ) -> None:
        self._config = config
        self._database = database
        self._store = store
        self._containers = containers
        self._probe = probe
        self._images = images
        self._networks = networks
        self._profiles = profiles
        self._announce = announce
        self._directories = InstanceDirectories(config.state_dir)
        self._idmap = IdMap(config.idmap.base, config.idmap.size)
        self._cgroup_root = _cgroup_root(config)
        self._runtimes: dict[str, Runtime] = {}
        self._reserved: set[str] = set()
        self._background: set[asyncio.Task[object]] = set()
        self.on_change: Callable[[str], None] = lambda name: None
        """Called with a name whenever what `get` says of that instance changes."""
        images.add_referrer(lambda: [(r.record.layers, r.record.blobs) for r in self._runtimes.values()])

    # ---- life of the daemon

    async def load(self) -> None:
        """Read the database, sweep what a dead daemon left, and take over containers that run."""
        records = await self._database.run(table.load)
        removed = await asyncio.to_thread(self._directories.sweep, {record.name for record in records})
        for name in removed:
            logger.info("Removed instances/%s, left by an earlier daemon", name)
        await asyncio.gather(*(self._adopt(record) for record in records))

    async def _adopt(self, record: InstanceRecord) -> None:
        directory = str(self._directories.path(record.name))
        runtime = Runtime(record, await self._containers.last_exit(directory))
        self._runtimes[record.name] = runtime
        container = await self._containers.adopt(
            record.name, str(self._directories.root), directory, self._cgroup(record.name)
        )
        if container is not None:
            runtime.frozen = await container.is_frozen()
            self._watch(runtime, container)
            logger.info("Instance %s runs (pid %d)", record.name, container.init_pid)
        elif record.config.get(_POWER) == "RUNNING":
            await self._clear_links(runtime)
            await self._set_power(runtime, "STOPPED")
            if record.ephemeral:
                self._spawn(self._delete_ephemeral(runtime))

    async def close(self) -> None:
        """Stop watching; containers go on."""
        tasks = [runtime.watcher for runtime in self._runtimes.values() if runtime.watcher] + list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- reading

    def names(self) -> list[str]:
        """Every instance's name."""
        return sorted(self._runtimes)

    def names_with(self, profile: str) -> list[str]:
        """Names of the instances that have a profile."""
        return sorted(name for name, runtime in self._runtimes.items() if profile in runtime.record.profiles)

    def get(self, name: str) -> Instance:
        """One instance. Raises NotFoundError."""
        runtime = self._runtime(name)
        config, devices = self._expanded(runtime)
        return Instance(runtime.record, config, devices, runtime.status)

    def state(self, name: str) -> InstanceState:
        """Its numbers now. Raises NotFoundError."""
        runtime = self._runtime(name)
        container = runtime.container
        if container is None:
            return InstanceState(runtime.status, 0, None, runtime.exit, None)
        usage = self._probe.usage(container.init_pid, self._cgroup(name))
        return InstanceState(runtime.status, container.init_pid, container.started_at, None, usage)

    def states(self) -> dict[str, InstanceState]:
        """The numbers of every instance, read together."""
        running = [(name, r.container) for name, r in self._runtimes.items() if r.container is not None]
        usages = self._probe.usages([(container.init_pid, self._cgroup(name)) for name, container in running])
        states = {name: InstanceState(r.status, 0, None, r.exit, None) for name, r in self._runtimes.items()}
        for (name, container), usage in zip(running, usages, strict=True):
            status = self._runtimes[name].status
            states[name] = InstanceState(status, container.init_pid, container.started_at, None, usage)
        return states

    def running(self, name: str) -> RunningContainer:
        """The container of a running instance. Raises NotFoundError, InvalidRequestError when stopped or frozen."""
        runtime = self._runtime(name)
        if runtime.container is None:
            raise InvalidRequestError("Instance is not running")
        if runtime.frozen:
            raise InvalidRequestError("Instance is frozen")
        return runtime.container

    def exec(self, name: str, wanted: ExecRequest) -> ExecSession:
        """A command in a running instance; user, directory and variables not asked for are those of its own process.

        Raises NotFoundError, InvalidRequestError when it does not run, is frozen, or the command can't be.
        """
        runtime = self._runtime(name)
        container = self.running(name)
        own = self._process(runtime)
        request = dataclasses.replace(
            wanted,
            environment={**dict(own.environment), **wanted.environment},
            user=wanted.user or own.user,
            cwd=wanted.cwd or own.cwd,
        )
        return ExecSession(container, request, self._directories.path(name) / "logs")

    def console_log(self, name: str) -> ConsoleLog:
        """What its init has printed. Raises NotFoundError."""
        runtime = self._runtime(name)
        return ConsoleLog(self._directories.path(name) / "console.log", lambda: runtime.container is None)

    async def log_files(self, name: str) -> list[str]:
        """Names of its log files. Raises NotFoundError."""
        self._runtime(name)
        return await asyncio.to_thread(self._directories.log_files, name)

    async def read_log(self, name: str, file: str) -> bytes:
        """One of its log files. Raises NotFoundError."""
        self._runtime(name)
        return await asyncio.to_thread(self._directories.read_log, name, file)

    async def delete_log(self, name: str, file: str) -> None:
        """Delete recorded output of a command. Raises NotFoundError, InvalidRequestError for the daemon's own logs."""
        self._runtime(name)
        await asyncio.to_thread(self._directories.delete_log, name, file)

    async def wait(self, name: str, timeout_s: float | None) -> InstanceState:
        """Wait until it is stopped and everything of it is cleared, or the time is over. Raises NotFoundError."""
        runtime = self._runtime(name)
        if runtime.watcher is not None:
            await asyncio.wait([runtime.watcher], timeout=timeout_s)
        container = runtime.container
        if container is not None:
            return InstanceState(runtime.status, container.init_pid, container.started_at, None, None)
        return InstanceState(runtime.status, 0, None, runtime.exit, None)

    # ---- making and deleting

    def reserve(self, new: NewInstance) -> NewInstance:
        """Check a request and hold its name until `create` ends or `unreserve` is called.

        Raises InvalidRequestError, UnsupportedError, NotFoundError (profile), ConflictError when the name is taken.
        """
        name = new.name or names.pick(self._runtimes.keys() | self._reserved)
        settings.check_name(name)
        settings.check_config(new.settings.config)
        settings.check_devices(new.settings.devices)
        for profile in new.settings.profiles:
            self._profiles.get(profile)
        if name in self._runtimes or name in self._reserved:
            raise ConflictError(f'Instance "{name}" already exists')
        self._reserved.add(name)
        return dataclasses.replace(new, name=name)

    def unreserve(self, name: str) -> None:
        """Give a name back that no `create` will use."""
        self._reserved.discard(name)

    async def create(self, new: NewInstance, image: FoundImage, progress: Progress) -> None:
        """Make the instance that `reserve` accepted of an image, pulling that first when it is not here."""
        try:
            record = image.record
            if record is None:
                assert image.resolved is not None
                record = await self._images.pull(image.resolved, progress)
            with self._images.pin(record.layers, record.blobs):
                await self._create(new, record)
        finally:
            self.unreserve(new.name)
        if new.start:
            await self.start(new.name)

    async def _create(self, new: NewInstance, image: ImageRecord) -> None:
        wanted = new.settings
        volatile = {
            "volatile.base_image": image.fingerprint,
            "volatile.container.oci": "true",
            _POWER: "STOPPED",
            "volatile.uuid": str(uuid.uuid4()),
        }
        config = {f"image.{key}": value for key, value in image.properties.items()} | volatile | dict(wanted.config)
        instance = InstanceRecord(
            name=new.name,
            architecture=image.architecture,
            description=wanted.description,
            ephemeral=wanted.ephemeral,
            config=config,
            devices=wanted.devices,
            profiles=wanted.profiles,
            created_at=time.time(),
            last_used_at=0.0,
            fingerprint=image.fingerprint,
            config_digest=image.config_digest,
            layers=image.layers,
            blobs=image.blobs,
        )
        runtime = Runtime(instance, None)
        process(new.name, self._images.config(image.config_digest), self._expanded(runtime)[0])
        await asyncio.to_thread(self._directories.create, new.name)
        try:
            await self._database.run(lambda db: table.put(db, instance))
        except BaseException:
            await asyncio.to_thread(self._discard, new.name)
            raise
        self._runtimes[new.name] = runtime
        self.on_change(new.name)
        self._announce("instance-created", f"/1.0/instances/{new.name}")
        self._spawn(self._images.touch(image.fingerprint))

    def check_delete(self, name: str) -> None:
        """Raises NotFoundError, and InvalidRequestError while the instance runs."""
        if self._runtime(name).container is not None:
            raise InvalidRequestError("Instance is running")

    async def delete(self, name: str) -> None:
        """Delete a stopped instance and all it wrote. Raises NotFoundError, InvalidRequestError when it runs."""
        runtime = self._runtime(name)
        async with runtime.lock:
            self.check_delete(name)
            await runtime.cleared()
            await self._database.run(lambda db: table.delete(db, name))
            del self._runtimes[name]
            self._networks.forget(name)
            trash = self._directories.discard(name)
        self.on_change(name)
        self._announce("instance-deleted", f"/1.0/instances/{name}")
        if trash is not None:
            self._spawn(asyncio.to_thread(self._directories.remove, trash))
        if runtime.record.fingerprint not in {image.fingerprint for image in self._images.all()}:
            self._spawn(self._images.collect())

    def _discard(self, name: str) -> None:
        if trash := self._directories.discard(name):
            self._directories.remove(trash)

    # ---- changing

    async def update(self, name: str, wanted: InstanceSettings) -> None:
        """Replace what a client may write; what concerns the container applies at its next start.

        Raises NotFoundError, InvalidRequestError, UnsupportedError.
        """
        runtime = self._runtime(name)
        settings.check_config(wanted.config)
        settings.check_devices(wanted.devices)
        for profile in wanted.profiles:
            self._profiles.get(profile)
        async with runtime.lock:
            self._runtime(name)
            await self._change(
                runtime,
                lambda record: dataclasses.replace(
                    record,
                    description=wanted.description,
                    ephemeral=wanted.ephemeral,
                    config={**wanted.config, _POWER: record.config[_POWER]},
                    devices=wanted.devices,
                    profiles=wanted.profiles,
                ),
            )
        self._announce("instance-updated", f"/1.0/instances/{name}")

    # ---- life

    async def act(self, name: str, action: Action, stop: Stop) -> None:
        """Change what an instance does. Raises NotFoundError, InvalidRequestError, ConflictError, WorkerError."""
        match action:
            case Action.START:
                await self.start(name)
            case Action.STOP:
                await self.stop(name, stop)
            case Action.RESTART:
                if self._runtime(name).container is not None:
                    await self.stop(name, stop, restarting=True)
                await self.start(name)
                self._announce("instance-restarted", f"/1.0/instances/{name}")
            case Action.FREEZE:
                await self._freeze(name)
            case Action.UNFREEZE:
                await self._unfreeze(name)

    async def start(self, name: str) -> None:
        """Start a stopped instance; a frozen one is thawed. Raises ConflictError when it runs, and what starting
        raises: InvalidRequestError for an entrypoint, user or directory that can't be, WorkerError."""
        runtime = self._runtime(name)
        async with runtime.lock:
            self._runtime(name)
            if runtime.frozen:
                await self._thaw(runtime)
                return
            if runtime.container is not None:
                raise ConflictError("The instance is already running")
            runtime.starting = True
            self.on_change(name)
            try:
                await runtime.cleared()
                await self._start(runtime)
            finally:
                runtime.starting = False
                self.on_change(name)
        self._announce("instance-started", f"/1.0/instances/{name}")

    async def _start(self, runtime: Runtime) -> None:
        record = runtime.record
        await self._images.ensure_layers(record.manifest_digest, record.config_digest, record.layers)
        run = self._process(runtime)
        config, devices = self._expanded(runtime)
        cards = await nics.prepare(self._networks, record, devices)
        idmap = None if settings.parse_bool(config.get("security.privileged", "")) else self._idmap
        files = await asyncio.to_thread(self._network_files, record.name, cards.address, idmap.base if idmap else 0)
        directory = self._directories.path(record.name)
        spec = StartSpec(
            name=record.name,
            lxc_path=str(self._directories.root),
            directory=str(directory),
            lowers=self._store.lower_mounts(record.layers[::-1]),
            idmap=idmap,
            cgroup=self._cgroup(record.name),
            items=(("lxc.uts.name", record.name), *cards.items),
            argv=run.argv,
            environment=run.environment,
            user=run.user,
            cwd=run.cwd,
            init=False,
            files=files,
        )
        await self._change(
            runtime,
            lambda current: dataclasses.replace(
                current, last_used_at=time.time(), config={**current.config, **cards.volatile, _POWER: "RUNNING"}
            ),
        )
        try:
            container = await self._containers.start(spec)
        except BaseException:
            await self._set_power(runtime, "STOPPED")
            raise
        runtime.exit = None
        runtime.frozen = runtime.stopping = runtime.restarting = False
        self._watch(runtime, container)

    async def stop(self, name: str, how: Stop, *, restarting: bool = False) -> None:
        """Stop a running instance. Raises ConflictError when it does not run or does not stop in time."""
        runtime = self._runtime(name)
        container = runtime.container
        if container is None:
            raise ConflictError("The instance is already stopped")
        runtime.stopping = True
        self.on_change(name)
        runtime.restarting = restarting
        try:
            await self._end(runtime, container, how)
        finally:
            runtime.stopping = False
            self.on_change(name)
        self._mark_ended(runtime, container)
        if not restarting:
            self._announce("instance-stopped" if how.force else "instance-shutdown", f"/1.0/instances/{name}")

    async def _end(self, runtime: Runtime, container: RunningContainer, how: Stop) -> None:
        if how.force:
            await self._kill(runtime, container)
            return
        container.signal(how.signal if how.signal is not None else self._process(runtime).stop_signal)
        if runtime.frozen:
            await self._thaw(runtime)
        try:
            await asyncio.wait_for(container.init_ended(), how.timeout_s)
        except TimeoutError:
            if not how.kill:
                raise ConflictError(
                    f'Cannot stop instance "{runtime.record.name}": it still runs {how.timeout_s:g} s after '
                    "its stop signal"
                ) from None
            await self._kill(runtime, container)

    async def _kill(self, runtime: Runtime, container: RunningContainer) -> None:
        container.signal(9)
        if runtime.frozen:
            await container.unfreeze()
        try:
            await asyncio.wait_for(container.init_ended(), KILL_TIMEOUT_S)
        except TimeoutError:
            raise BusyError(
                f'Cannot stop instance "{runtime.record.name}": its init (pid {container.init_pid}) '
                f"did not end {KILL_TIMEOUT_S:g} s after SIGKILL"
            ) from None

    async def _freeze(self, name: str) -> None:
        runtime = self._runtime(name)
        async with runtime.lock:
            if runtime.container is None:
                raise ConflictError("The instance is not running")
            if runtime.frozen:
                raise ConflictError("The instance is already frozen")
            await runtime.container.freeze()
            runtime.frozen = True
        self.on_change(name)
        self._announce("instance-paused", f"/1.0/instances/{name}")

    async def _unfreeze(self, name: str) -> None:
        runtime = self._runtime(name)
        async with runtime.lock:
            if not runtime.frozen:
                raise ConflictError("The instance is not frozen")
            await self._thaw(runtime)

    async def _thaw(self, runtime: Runtime) -> None:
        if runtime.container is not None:
            await runtime.container.unfreeze()
        runtime.frozen = False
        self.on_change(runtime.record.name)
        self._announce("instance-resumed", f"/1.0/instances/{runtime.record.name}")

    # ---- watching

    def _watch(self, runtime: Runtime, container: RunningContainer) -> None:
        runtime.container = container
        runtime.watcher = asyncio.create_task(self._follow(runtime, container), name=f"watch {runtime.record.name}")

    def _mark_ended(self, runtime: Runtime, container: RunningContainer) -> None:
        """Note that init has ended, whoever sees it first."""
        if runtime.container is container:
            runtime.container = None
            runtime.frozen = False
            self.on_change(runtime.record.name)

    async def _follow(self, runtime: Runtime, container: RunningContainer) -> None:
        """See a container to its end."""
        name = runtime.record.name
        await container.init_ended()
        asked = runtime.stopping or runtime.container is None
        self._mark_ended(runtime, container)
        runtime.exit = await container.released()
        await self._clear_links(runtime)
        await self._set_power(runtime, "STOPPED")
        if not asked:
            self._announce("instance-stopped", f"/1.0/instances/{name}")
        if runtime.record.ephemeral and not runtime.restarting:
            self._spawn(self._delete_ephemeral(runtime))

    async def _delete_ephemeral(self, runtime: Runtime) -> None:
        name = runtime.record.name
        try:
            await self.delete(name)
        except (NotFoundError, InvalidRequestError) as exc:
            logger.info("Ephemeral instance %s is not deleted: %s", name, exc)

    async def _clear_links(self, runtime: Runtime) -> None:
        """A monitor that was killed leaves the host's end of its veth."""
        for link in nics.host_names(runtime.record):
            await self._networks.remove_link(link)

    # ---- parts of a start

    def _network_files(self, name: str, address: str | None, owner: int) -> tuple[BindFile, ...]:
        texts = {
            "resolv.conf": network_files.resolv_conf(),
            "hosts": network_files.hosts(name, address),
            "hostname": f"{name}\n",
        }
        self._directories.write_network_files(name, texts, owner)
        directory = self._directories.path(name) / "network"
        return tuple(BindFile(str(directory / file), f"/etc/{file}") for file in texts)

    def _process(self, runtime: Runtime) -> Process:
        image = self._images.config(runtime.record.config_digest)
        # Only what the user and the profiles say overrides the image: `process` knows the image's own rules.
        config, _ = self._profiles.expand(runtime.record.profiles, runtime.record.config, runtime.record.devices)
        return process(runtime.record.name, image, config)

    # ---- bookkeeping

    def _runtime(self, name: str) -> Runtime:
        try:
            return self._runtimes[name]
        except KeyError:
            raise NotFoundError(f'Instance "{name}" not found') from None

    def _expanded(self, runtime: Runtime) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        if runtime.expanded is None:
            record = runtime.record
            config, devices = self._profiles.expand(record.profiles, record.config, record.devices)
            defaults = image_defaults(self._images.config(record.config_digest))
            if "oci.entrypoint" in config:
                defaults.pop("oci.cmd", None)
            runtime.expanded = ({**defaults, **config}, devices)
        return runtime.expanded

    async def _change(self, runtime: Runtime, change: Callable[[InstanceRecord], InstanceRecord]) -> None:
        """Replace an instance's record, on disk first; changes come one after the other, so none is lost."""
        async with runtime.changing:
            record = change(runtime.record)
            if record != runtime.record:
                await self._database.run(lambda db: table.put(db, record))
                runtime.record = record
                runtime.expanded = None
                self.on_change(record.name)

    async def _set_power(self, runtime: Runtime, power: str) -> None:
        await self._change(runtime, lambda record: dataclasses.replace(record, config={**record.config, _POWER: power}))

    def _cgroup(self, name: str) -> str:
        return f"{self._cgroup_root}/{name}"

    def _spawn(self, job: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(job)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[object]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("A background job failed", exc_info=exc)


def _cgroup_root(config: Config) -> str:
    """One directory below every hierarchy's root per state directory, so that daemons do not meet."""
    if config.state_dir == DEFAULT_STATE_DIR:
        return "lxdpy"
    return f"lxdpy-{hashlib.sha256(str(config.state_dir).encode()).hexdigest()[:8]}"
