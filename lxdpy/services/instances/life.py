"""What an instance does: it starts, is frozen, ends by itself or is stopped, and what is due after its end."""

import asyncio
import contextvars
import dataclasses
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from lxdpy.config import DEFAULT_STATE_DIR, Config
from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.drivers.base import (
    BindFile,
    Containers,
    DiskSpec,
    ExitStatus,
    FileSession,
    IdMap,
    RunningContainer,
    StartSpec,
    StoppedRootfs,
    Store,
)
from lxdpy.errors import BusyError, ConflictError, LxdpyError
from lxdpy.project import instance_url, plain_name
from lxdpy.services.events import Announce
from lxdpy.services.images import ImageService
from lxdpy.services.instances import disks, id_map, nics, settings
from lxdpy.services.instances.directory import InstanceDirectories
from lxdpy.services.instances.limits import limits
from lxdpy.services.instances.mounting import Mounting
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.templates import APPLY, Templates
from lxdpy.services.instances.volatile import POWER, is_host_name
from lxdpy.services.networks import NetworkService
from lxdpy.services.networks import files as network_files
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

KILL_TIMEOUT_S = 30.0
DEFAULT_STOP_TIMEOUT_S = 10.0
_KILL = 9
# By which the kernel ends the init of a system that calls reboot(2), as reboot_pid_ns() says.
_HALTED, _REBOOTED = 2, 1
_ASK_AGAIN_S = 1.0
_YOUNG_S = 2.0


@dataclass(frozen=True, slots=True)
class Stop:
    """How to stop: a signal and a time, or force; `kill` forces it when the time is over."""

    force: bool = False
    timeout_s: float | None = None
    """None waits as long as it takes."""
    signal: int | None = None
    """None: the image's stop signal; for a system the one that its init heeds."""
    kill: bool = False


class Life:
    """Starts, watches and stops the instances of a roster."""

    def __init__(
        self,
        config: Config,
        roster: Roster,
        mounting: Mounting,
        directories: InstanceDirectories,
        store: Store,
        containers: Containers,
        images: ImageService,
        networks: NetworkService,
        announce: Announce,
        templates: Templates,
        on_ephemeral_end: Callable[[str], None],
        on_reboot: Callable[[str], None],
    ) -> None:
        """`on_ephemeral_end` is called with the name of an ephemeral instance that has ended, `on_reboot` with that of
        a system which has rebooted and is for `reboot` to start again."""
        self._roster = roster
        self._mounting = mounting
        self._directories = directories
        self._store = store
        self._containers = containers
        self._images = images
        self._networks = networks
        self._announce = announce
        self._templates = templates
        self._on_ephemeral_end = on_ephemeral_end
        self._on_reboot = on_reboot
        self.on_started: Callable[[str], None] = lambda name: None
        """Called with the name of an instance that was started."""
        self._idmap = IdMap(config.idmap.base, config.idmap.size)
        self._cgroup_root = _cgroup_root(config)

    def cgroup(self, name: str) -> str:
        """An instance's cgroup, below each hierarchy's root."""
        return f"{self._cgroup_root}/{name}"

    async def adopt(self, runtime: Runtime) -> None:
        """Take over a container that an earlier daemon started, or put right what it left of one."""
        name = runtime.record.name
        directory = str(self._directories.path(name))
        try:
            status = await self._containers.last_exit(directory)
            runtime.exit = _meant(runtime, status)
            container = await self._containers.adopt(name, str(self._directories.root), directory, self.cgroup(name))
            if container is not None:
                if self._directories.is_held(name):
                    await container.unfreeze()
                    self._directories.let_go(name)
                runtime.frozen = await container.is_frozen()
                runtime.cards = nics.cards_of(self._roster.expanded(runtime)[1])
                runtime.disks = disks.shown(self._roster.expanded(runtime)[1])
                self._watch(runtime, container)
                logger.info("Instance %s runs (pid %d)", name, container.init_pid)
            elif runtime.record.config.get(POWER) == "RUNNING":
                runtime.rebooting = _rebooted(runtime, status)
                await self._conclude(runtime)
        except LxdpyError as exc:
            # One instance's trouble must not keep the others from their daemon.
            logger.error("Cannot take over instance %s: %s", name, exc)

    # ---- start

    async def start(self, name: str) -> None:
        """Start a stopped instance; a frozen one is thawed. Raises ConflictError when it runs, and what starting
        raises: InvalidRequestError for an entrypoint, user or directory that can't be, WorkerError."""
        if await self._begin(name):
            self._announce("instance-started", instance_url(name))
            self.on_started(name)

    async def _begin(self, name: str) -> bool:
        """Start or thaw an instance; whether it was started. Raises what `start` raises."""
        async with self._roster.held(name) as runtime:
            if runtime.frozen:
                await self._thaw(runtime)
                return False
            if runtime.container is not None:
                raise ConflictError("The instance is already running")
            runtime.starting = True
            self._roster.on_change(name)
            try:
                await runtime.cleared()
                await self._start(runtime)
            finally:
                runtime.starting = False
                self._roster.on_change(name)
        return True

    async def _start(self, runtime: Runtime) -> None:
        await self._images.ensure_layers(runtime.record)
        async with self._mounting.starting(runtime) as (devices, shown):
            await self._start_with(runtime, shown)
            if runtime.container is not None:
                runtime.disks = disks.shown(devices)

    async def _start_with(self, runtime: Runtime, shown: tuple[DiskSpec, ...]) -> None:
        record = runtime.record
        run = self._roster.process(runtime)
        config, devices = self._roster.expanded(runtime)
        # A system is told its addresses by DHCP, as its image expects.
        cards = await nics.prepare(self._networks, record, devices, asks=record.config_digest is None)
        idmap = self._id_map(runtime)
        files: tuple[BindFile, ...] = ()
        if not run.is_system:
            # A system's templates make them, its DHCP client and its resolver change them.
            files = await asyncio.to_thread(self._network_files, record.name, cards, idmap.base if idmap else 0)
        templates = await self._templates.due(
            record, self._directories.path(record.name), config, devices, privileged=idmap is None
        )
        spec = StartSpec(
            name=record.name,
            lxc_path=str(self._directories.root),
            directory=str(self._directories.path(record.name)),
            rw=record.rw,
            lowers=self._store.lower_mounts(record.layers[::-1]),
            idmap=idmap,
            cgroup=self.cgroup(record.name),
            items=(("lxc.uts.name", record.plain_name), *cards.items),
            argv=run.argv,
            environment=run.environment,
            user=run.user,
            cwd=run.cwd,
            init=False,
            files=files,
            disks=shown,
            limits=limits(config),
            system=run.is_system,
            templates=templates,
        )
        try:
            await self._roster.change(
                runtime,
                lambda current: dataclasses.replace(
                    current,
                    last_used_at=time.time(),
                    # Names of an earlier start's links may be somebody else's by now.
                    config={key: value for key, value in current.config.items() if not is_host_name(key)}
                    | {**cards.volatile, **id_map.volatile(idmap), POWER: "RUNNING"},
                ),
            )
            container = await self._containers.start(spec)
        except BaseException:
            await self._roster.set_power(runtime, "STOPPED")
            raise
        runtime.exit = None
        runtime.frozen = runtime.told = False
        runtime.cards = nics.cards_of(devices)
        self._watch(runtime, container)
        if APPLY in record.config:
            await self._roster.change(runtime, _without_deferred)

    def _network_files(self, name: str, cards: nics.Cards, owner: int) -> tuple[BindFile, ...]:
        texts = {
            "resolv.conf": network_files.resolv_conf_of(cards.resolver.address, cards.resolver.domains)
            if cards.resolver
            else network_files.resolv_conf(),
            "hosts": network_files.hosts(plain_name(name), cards.address),
            "hostname": f"{plain_name(name)}\n",
        }
        self._directories.write_network_files(name, texts, owner)
        directory = self._directories.path(name) / "network"
        return tuple(BindFile(str(directory / file), f"/etc/{file}") for file in texts)

    # ---- files

    async def open_files(self, runtime: Runtime) -> FileSession:
        """A session on an instance's files; its lock is held. Raises ConflictError, WorkerError."""
        if runtime.container is not None:
            return await runtime.container.files()
        record = runtime.record
        await self._images.ensure_layers(record)
        directory = self._directories.path(record.name)
        return await self._containers.files(
            StoppedRootfs(
                name=record.name,
                lowers=self._store.lower_mounts(record.layers[::-1]),
                rw=str(directory / record.rw),
                scratch=str(directory / "rootfs"),
            )
        )

    def ids(self, runtime: Runtime) -> int | None:
        """How many ids an instance's id map has; None: all of them."""
        idmap = self._id_map(runtime)
        return idmap.size if idmap else None

    def _id_map(self, runtime: Runtime) -> IdMap | None:
        config, _ = self._roster.expanded(runtime)
        return None if settings.parse_bool(config.get("security.privileged", "")) else self._idmap

    # ---- stop

    async def stop(self, name: str, how: Stop) -> None:
        """Stop a running instance; one that starts is stopped once it runs.

        Raises NotFoundError, ConflictError when it does not run or does not stop in time.
        """
        runtime = await self._end(name, how)
        self._tell_end(runtime, "instance-stopped" if runtime.killed else "instance-shutdown")

    async def restart(self, name: str, how: Stop) -> None:
        """Stop an instance, if it runs, and start it. Raises what these raise."""
        runtime = self._roster.get(name)
        runtime.restarts += 1
        try:
            if runtime.container is not None:
                await self._end(name, how)
                runtime.told = True
            started = await self._begin(name)
        finally:
            runtime.restarts -= 1
            if runtime.container is None and runtime.record.ephemeral and not runtime.restarts:
                self._on_ephemeral_end(name)
        self._announce("instance-restarted", instance_url(name))
        if started:
            self.on_started(name)

    async def reboot(self, name: str) -> None:
        """Start a system that has rebooted. Raises what `start` raises."""
        runtime = self._roster.get(name)
        try:
            if runtime.rebooting:
                await self.start(name)
                self._announce("instance-restarted", instance_url(name))
        finally:
            runtime.rebooting = False
            if runtime.container is None and self._roster.runtimes.get(name) is runtime:
                await self._roster.set_power(runtime, "STOPPED")

    async def _end(self, name: str, how: Stop) -> Runtime:
        """End the container without the lock: force may overtake a graceful stop."""
        runtime = self._roster.get(name)
        if runtime.starting:
            async with runtime.lock:
                pass
        container = runtime.container
        if container is None:
            if runtime.rebooting:
                runtime.rebooting = False
                return runtime
            raise ConflictError("The instance is already stopped")
        runtime.stops += 1
        self._roster.on_change(name)
        try:
            if how.force:
                await self._kill(runtime, container)
            else:
                await self._ask(runtime, container, how)
        finally:
            runtime.stops -= 1
            self._roster.on_change(name)
        self._mark_ended(runtime, container)
        return runtime

    async def _ask(self, runtime: Runtime, container: RunningContainer, how: Stop) -> None:
        signo = how.signal if how.signal is not None else self._roster.process(runtime).stop_signal
        container.signal(container.halt_signal() if signo is None else signo)
        if runtime.frozen:
            await self._thaw(runtime)
        try:
            ended = container.init_ended() if signo is not None else _keep_asking(container)
            await asyncio.wait_for(ended, how.timeout_s)
        except TimeoutError:
            if not how.kill:
                raise ConflictError(
                    f'Cannot stop instance "{runtime.record.plain_name}": it still runs {how.timeout_s:g} s after '
                    "its stop signal"
                ) from None
            await self._kill(runtime, container)

    async def _kill(self, runtime: Runtime, container: RunningContainer) -> None:
        runtime.killed = True
        container.signal(_KILL)
        if runtime.frozen:
            await container.unfreeze()
        try:
            await asyncio.wait_for(container.init_ended(), KILL_TIMEOUT_S)
        except TimeoutError:
            raise BusyError(
                f'Cannot stop instance "{runtime.record.plain_name}": its init (pid {container.init_pid}) '
                f"did not end {KILL_TIMEOUT_S:g} s after SIGKILL"
            ) from None

    # ---- limits

    async def limit(self, runtime: Runtime) -> None:
        """Set what a running instance may use to what its configuration says. Raises what `RunningContainer.limit`
        raises."""
        if runtime.container is not None:
            await runtime.container.limit(limits(self._roster.expanded(runtime)[0]))

    @asynccontextmanager
    async def limited(self, runtime: Runtime, config: Mapping[str, str]) -> AsyncIterator[None]:
        """Apply the limits of an expanded configuration to a running instance, while the block makes it the instance's;
        when that fails they are as before. Raises what `RunningContainer.limit` raises."""
        container = runtime.container
        before, after = limits(self._roster.expanded(runtime)[0]), limits(config)
        if container is None or before == after:
            yield
            return
        await container.limit(after)
        try:
            yield
        except BaseException:
            await container.limit(before)
            raise

    # ---- freeze

    async def freeze(self, name: str) -> None:
        """Freeze every process. Raises ConflictError when it does not run or is frozen."""
        async with self._roster.held(name) as runtime:
            container = runtime.container
            if container is None:
                raise ConflictError("The instance is not running")
            if runtime.frozen:
                raise ConflictError("The instance is already frozen")
            await self._freeze(runtime, container)

    async def unfreeze(self, name: str) -> None:
        """Thaw. Raises ConflictError when it is not frozen."""
        async with self._roster.held(name) as runtime:
            if not runtime.frozen:
                raise ConflictError("The instance is not frozen")
            await self._thaw(runtime)

    @asynccontextmanager
    async def still(self, runtime: Runtime) -> AsyncIterator[None]:
        """Nothing moves in the container meanwhile, if there is one; the caller holds the lock.

        Raises ConflictError when somebody stopped or thawed it meanwhile: what was read may be of several moments.
        """
        container, name = runtime.container, runtime.record.name
        if container is None:
            yield
            return
        if not runtime.frozen:
            await asyncio.to_thread(self._directories.hold, name)
        try:
            if not runtime.frozen:
                await uninterrupted(self._freeze(runtime, container))
            yield
            if runtime.container is not container or not runtime.frozen:
                raise ConflictError(f'Instance "{plain_name(name)}" was stopped or thawed while it was copied')
        finally:
            await uninterrupted(self._move_again(runtime, container))

    async def _move_again(self, runtime: Runtime, container: RunningContainer) -> None:
        name = runtime.record.name
        if await asyncio.to_thread(self._directories.is_held, name):
            # What ends by itself needs no thawing.
            with suppress(ConflictError):
                if runtime.container is container and runtime.frozen:
                    await self._thaw(runtime)
                elif runtime.container is container:
                    # A freeze that failed may have begun.
                    await container.unfreeze()
            await asyncio.to_thread(self._directories.let_go, name)

    async def _freeze(self, runtime: Runtime, container: RunningContainer) -> None:
        name = runtime.record.name
        await container.freeze()
        if runtime.container is not container:
            raise ConflictError("The instance has ended before it was frozen")
        runtime.frozen = True
        self._roster.on_change(name)
        self._announce("instance-paused", instance_url(name))

    async def _thaw(self, runtime: Runtime) -> None:
        if runtime.container is not None:
            await runtime.container.unfreeze()
        runtime.frozen = False
        self._roster.on_change(runtime.record.name)
        self._announce("instance-resumed", instance_url(runtime.record.name))

    # ---- change

    @asynccontextmanager
    async def rewired(self, runtime: Runtime, after: Devices) -> AsyncIterator[Mapping[str, str]]:
        """Bring an instance's NICs to a new set of expanded devices, at once while it runs; gives the `volatile.*` keys
        to write ("" removes one). The caller holds the instance's lock; what it raises takes the change back. Raises
        what plugging does."""
        name, new = runtime.record.name, nics.cards_of(after)
        if runtime.container is None:
            old = nics.cards_of(self._roster.expanded(runtime)[1])
            yield {}
            for gone in old.keys() - new.keys():
                await self._networks.detach(name, gone)
            return
        old = runtime.cards
        if old == new:
            yield {}
            return
        asks = runtime.record.config_digest is None
        done = await nics.change(self._networks, runtime.record, runtime.container.init_pid, old, new, asks=asks)
        try:
            yield done.volatile
        except BaseException:
            await done.undo()
            raise
        runtime.cards = new
        await done.finish(new)

    @asynccontextmanager
    async def remounted(self, runtime: Runtime, after: Devices) -> AsyncIterator[None]:
        """The same for disks."""
        async with self._mounting.changed(runtime, after):
            yield

    # ---- the end

    def _watch(self, runtime: Runtime, container: RunningContainer) -> None:
        runtime.container = container
        runtime.killed = False
        # In a context of its own: how the container ends is not the doing of whoever started it.
        runtime.watcher = asyncio.create_task(
            self._follow(runtime, container), name=f"watch {runtime.record.name}", context=contextvars.Context()
        )

    def _mark_ended(self, runtime: Runtime, container: RunningContainer) -> None:
        """Note that init has ended, whoever sees it first."""
        if runtime.container is container:
            runtime.container = None
            runtime.disks = {}
            runtime.frozen = False
            self._roster.on_change(runtime.record.name)

    def _tell_end(self, runtime: Runtime, action: str) -> None:
        """Announce the end, once however many asked for it."""
        if not runtime.told:
            runtime.told = True
            self._announce(action, instance_url(runtime.record.name))

    async def _follow(self, runtime: Runtime, container: RunningContainer) -> None:
        """See a container to its end, whatever goes wrong on the way: its instance can be started and deleted then."""
        await container.init_ended()
        asked = runtime.stopping or runtime.container is None
        self._mark_ended(runtime, container)
        try:
            # They would hold its mounts.
            await runtime.files.end()
        except LxdpyError as exc:
            logger.error("%s", exc)
        try:
            status = await container.released()
            runtime.exit = _meant(runtime, status)
            runtime.rebooting = not asked and _rebooted(runtime, status)
            await self._conclude(runtime)
        except LxdpyError as exc:
            logger.error("Cannot clear all that instance %s left: %s", runtime.record.name, exc)
        if not asked and not runtime.rebooting:
            self._tell_end(runtime, "instance-stopped")

    async def _conclude(self, runtime: Runtime) -> None:
        """What is due once a container is gone."""
        for link in nics.host_names(runtime.record):
            try:
                # A monitor that was killed leaves the host's end of its veth.
                await self._networks.remove_link(link)
            except LxdpyError as exc:
                logger.error("Cannot clear a link of instance %s: %s", runtime.record.name, exc)
        if runtime.rebooting:
            # Still noted as running: should this daemon end before it is started, the next one starts it.
            self._on_reboot(runtime.record.name)
        elif runtime.record.ephemeral and not runtime.restarts:
            # Still noted as running: should this daemon end before it is deleted, the next one deletes it.
            self._on_ephemeral_end(runtime.record.name)
        else:
            await self._roster.set_power(runtime, "STOPPED")


async def _keep_asking(container: RunningContainer) -> None:
    """Wait until a system that was asked to halt has ended.

    Right after its start init heeds no signal yet, and systemd has not shown that it is: it is asked again then.
    """
    asked = container.halt_signal()
    young = container.started_at + _YOUNG_S
    while True:
        try:
            await asyncio.wait_for(container.init_ended(), _ASK_AGAIN_S)
            return
        except TimeoutError:
            signo = container.halt_signal()
            if signo != asked or time.time() < young + _ASK_AGAIN_S:
                container.signal(signo)
            asked = signo


def _rebooted(runtime: Runtime, status: ExitStatus | None) -> bool:
    return runtime.is_system and status is not None and status.signal == _REBOOTED


def _meant(runtime: Runtime, status: ExitStatus | None) -> ExitStatus | None:
    """How an init ended: a system that has halted or rebooted has failed in nothing."""
    if runtime.is_system and status is not None and status.signal in (_HALTED, _REBOOTED):
        return ExitStatus(0, None)
    return status


def _without_deferred(record: InstanceRecord) -> InstanceRecord:
    return dataclasses.replace(record, config={key: value for key, value in record.config.items() if key != APPLY})


def _cgroup_root(config: Config) -> str:
    """One directory below every hierarchy's root per state directory, so that daemons do not meet."""
    if config.state_dir == DEFAULT_STATE_DIR:
        return "lxdpy"
    return f"lxdpy-{hashlib.sha256(str(config.state_dir).encode()).hexdigest()[:8]}"
