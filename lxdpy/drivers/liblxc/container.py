"""One running container, and a command in it, held by pidfds: no liblxc call is needed to kill, wait or freeze."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lxdpy.drivers.base import DiskSpec, ExecSpec, ExitStatus, Limits
from lxdpy.drivers.liblxc import cgroups
from lxdpy.drivers.liblxc import limits as limiting
from lxdpy.drivers.liblxc.files import LxcFiles
from lxdpy.drivers.process_end import ProcessEnd
from lxdpy.drivers.zygote import Job, Zygote
from lxdpy.errors import BusyError, ConflictError, WorkerError
from lxdpy.linux import process
from lxdpy.linux.cgroup import CgroupMounts
from lxdpy.linux.own_cgroup import expect_moves, open_procs
from lxdpy.project import plain_name

logger = logging.getLogger(__name__)

SIGKILL = 9
HALT_SYSTEMD = signal.SIGRTMIN + 3
ATTACH_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 10.0


def exit_status(wait_status: int) -> ExitStatus:
    """A wait status as waitpid(2) gives it. liblxc sets the low bits to 0x7f when a signal is in the upper byte."""
    if wait_status & 0xFF == 0x7F:
        return ExitStatus(None, wait_status >> 8 & 0x7F)
    if os.WIFSIGNALED(wait_status):
        return ExitStatus(None, os.WTERMSIG(wait_status))
    return ExitStatus(os.WEXITSTATUS(wait_status), None)


def read_exit(directory: str) -> ExitStatus | None:
    """What the last monitor wrote to DIRECTORY/exit; None when it wrote nothing whole."""
    try:
        status = json.loads(Path(directory, "exit").read_bytes())["status"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        logger.warning("%s/exit is damaged: %s", directory, exc)
        return None
    return exit_status(status) if isinstance(status, int) else None


class Identity:
    """What names a container on this host."""

    __slots__ = ("cgroup", "directory", "lxc_path", "name")

    def __init__(self, name: str, lxc_path: str, directory: str, cgroup: str) -> None:
        self.name = name
        self.lxc_path = lxc_path
        self.directory = directory
        self.cgroup = cgroup


class Host:
    """What every container shares: the worker, the limit on its jobs, the cgroup mounts, and who is running."""

    def __init__(self, zygote: Zygote, jobs: asyncio.Semaphore, mounts: CgroupMounts) -> None:
        self.zygote = zygote
        self.jobs = jobs
        self.mounts = mounts
        self.procs_fd = open_procs()
        self.running: dict[str, Container] = {}
        """By cgroup."""
        self._expecting: asyncio.Task[None] | None = None

    def choose_cpus(self, limits: Limits, *, beside: str) -> tuple[int, ...]:
        """The CPUs for the container of cgroup `beside`, those that fewest others have. Raises InvalidRequestError."""
        if not limits.cpus and limits.cpu_count is None:
            return ()
        taken = (container.cpus for cgroup, container in self.running.items() if cgroup != beside)
        return limiting.choose_cpus(limits, taken, limiting.online_cpus())

    def expect_moves(self) -> asyncio.Task[None]:
        """Have the kernel wait out, from now on and in a thread, what the next move to a cgroup would wait for."""
        if self._expecting is None or self._expecting.done():
            self._expecting = asyncio.create_task(asyncio.to_thread(expect_moves, self.procs_fd))
        return self._expecting

    async def close(self) -> None:
        """Close what is open."""
        if self._expecting is not None:
            await self._expecting
        os.close(self.procs_fd)


class Container:
    """base.RunningContainer."""

    def __init__(
        self,
        host: Host,
        identity: Identity,
        init: tuple[int, ProcessEnd | None],
        monitor: tuple[int, ProcessEnd],
        started_at: float,
    ) -> None:
        self._host = host
        self._identity = identity
        self._init_pid, self._init = init
        self._monitor_pid, self._monitor = monitor
        self._started_at = started_at
        self._console: Console | None = None
        self.cpus: tuple[int, ...] = ()
        """Those it is pinned to; none for all."""
        host.running[identity.cgroup] = self
        self._release = asyncio.create_task(self._released(), name=f"release {identity.name}")

    @property
    def name(self) -> str:
        """The container's name."""
        return self._identity.name

    @property
    def init_pid(self) -> int:
        """Init's pid on the host; 0 when it had ended before anybody saw it."""
        return self._init_pid

    @property
    def monitor_pid(self) -> int:
        """The monitor's pid."""
        return self._monitor_pid

    @property
    def started_at(self) -> float:
        """Seconds since the epoch."""
        return self._started_at

    def signal(self, signo: int) -> None:
        """Send a signal to init. SIGKILL works on a frozen container too."""
        if self._init is not None:
            self._init.signal(signo)
            if signo == SIGKILL:
                cgroups.thaw(self._host.mounts, self._identity.cgroup)

    def halt_signal(self) -> int:
        """The signal that has this init halt the system: systemd's if it waits for that by now, as liblxc tells them
        apart, else SIGPWR."""
        if self._init is not None and not self._init.ended and HALT_SYSTEMD in process.heeded_signals(self._init_pid):
            return HALT_SYSTEMD
        return signal.SIGPWR

    async def init_ended(self) -> None:
        """Wait until init has ended."""
        if self._init is not None:
            await self._init.wait()

    async def released(self) -> ExitStatus:
        """Wait until nothing of the container is left."""
        return await asyncio.shield(self._release)

    async def limit(self, limits: Limits) -> None:
        """Set what it may use. Raises ConflictError, InvalidRequestError, UnsupportedError, WorkerError."""
        self._check_running()
        host, cgroup = self._host, self._identity.cgroup
        cpus = host.choose_cpus(limits, beside=cgroup)
        await asyncio.to_thread(limiting.apply, host.mounts, cgroup, limits, cpus, limiting.online_cpus())
        self.cpus = cpus

    async def change_disks(self, detach: Sequence[DiskSpec], attach: Sequence[DiskSpec]) -> None:
        """Take disks away and show others. Raises InvalidRequestError, ConflictError, WorkerError."""
        self._check_running()
        request = {
            "job": "disks",
            "init_pid": self._init_pid,
            "detach": [asdict(disk) for disk in detach],
            "attach": [asdict(disk) for disk in attach],
        }
        async with self._host.jobs:
            with await self._host.zygote.job(request) as job:
                await job.receive(ATTACH_TIMEOUT_S)

    async def freeze(self) -> None:
        """Freeze every process. Raises ConflictError, WorkerError."""
        self._check_running()
        await asyncio.to_thread(cgroups.set_frozen, self._host.mounts, self._identity.cgroup, frozen=True)

    async def unfreeze(self) -> None:
        """Thaw. Raises ConflictError, WorkerError."""
        self._check_running()
        await asyncio.to_thread(cgroups.set_frozen, self._host.mounts, self._identity.cgroup, frozen=False)

    async def is_frozen(self) -> bool:
        """Whether the container is frozen."""
        return cgroups.is_frozen(self._host.mounts, self._identity.cgroup)

    async def exec(self, spec: ExecSpec, stdin: int, stdout: int, stderr: int) -> ExecProcess:
        """Run a command. Raises InvalidRequestError, ConflictError, WorkerError."""
        self._check_running()
        if cgroups.is_frozen(self._host.mounts, self._identity.cgroup):
            raise ConflictError(f'Cannot run a command in instance "{plain_name(self.name)}": it is frozen')
        request = {
            "job": "exec",
            "name": self.name,
            "lxc_path": self._identity.lxc_path,
            "init_pid": self._init_pid,
            "argv": spec.argv,
            "environment": spec.environment,
            "uid": spec.uid,
            "gid": spec.gid,
            "user": spec.user,
            "cwd": spec.cwd,
            "terminal": spec.terminal,
        }
        async with self._host.jobs:
            self._host.expect_moves()
            job = await self._host.zygote.job(request, (stdin, stdout, stderr))
            try:
                message, fds = await job.receive(ATTACH_TIMEOUT_S)
                return ExecProcess(job, int(str(message["pid"])), ProcessEnd(fds[0]))
            except BaseException:
                job.kill()
                job.close()
                self._check_running()
                raise

    async def open_terminal(self) -> tuple[int, int]:
        """A new pty of the container's devpts. Raises ConflictError, WorkerError."""
        self._check_running()
        async with self._host.jobs:
            with await self._host.zygote.job({"job": "terminal", "init_pid": self._init_pid}) as job:
                _, fds = await job.receive(QUERY_TIMEOUT_S)
        master, slave = fds
        return master, slave

    async def console(self) -> Console:
        """The console. Raises BusyError while somebody holds it, ConflictError, WorkerError."""
        self._check_running()
        if self._console is not None and not self._console.closed:
            raise BusyError(f'Cannot open the console of instance "{plain_name(self.name)}": it is in use')
        request = {
            "job": "console",
            "name": self.name,
            "lxc_path": self._identity.lxc_path,
            "init_pid": self._init_pid,
        }
        async with self._host.jobs:
            job = await self._host.zygote.job(request)
            try:
                _, fds = await job.receive(QUERY_TIMEOUT_S)
            except BaseException:
                job.kill()
                job.close()
                raise
        self._console = Console(job, fds[0])
        return self._console

    async def files(self) -> LxcFiles:
        """A session on its files. Raises ConflictError, WorkerError."""
        self._check_running()
        assert self._init is not None
        async with self._host.jobs:
            request = {"job": "files", "init_pid": self._init_pid, "directory": self._identity.directory}
            job = await self._host.zygote.job(request, (self._init.fileno(),))
            return await LxcFiles.begin(self.name, job)

    def detach(self) -> None:
        """Stop watching; the container goes on."""
        self._release.cancel()
        for held in (self._init, self._monitor):
            if held is not None:
                held.close()
        if self._console is not None:
            self._console.let_go()
            self._console = None

    def _check_running(self) -> None:
        if self._init is None or self._init.ended or self._monitor.ended:
            raise ConflictError(f'Instance "{self.name}" is not running')

    async def _released(self) -> ExitStatus:
        """What is due once the monitor has ended."""
        if self._init is not None:
            await self._init.wait()
        # The monitor removes network interfaces now, and then leaves its cgroups.
        await asyncio.gather(self._monitor.wait(), asyncio.shield(self._host.expect_moves()))
        if self._console is not None:
            self._console.let_go()
            self._console = None
        host, identity = self._host, self._identity
        del host.running[identity.cgroup]
        await asyncio.to_thread(clear, host.mounts, identity, pivot=not host.running)
        return read_exit(identity.directory) or ExitStatus(None, SIGKILL)


def clear(mounts: CgroupMounts, identity: Identity, *, pivot: bool) -> None:
    """Remove what the dead monitor of a container may have left. Blocks.

    A monitor that was killed wrote no exit status, and left cgroups: its container died with it, by the same signal.
    """
    killed = cgroups.exists(mounts, identity.cgroup)
    cgroups.remove(mounts, identity.cgroup, pivot=pivot)
    directory = Path(identity.directory)
    (directory / "run.json").unlink(missing_ok=True)
    if killed and not (directory / "exit").exists():
        logger.warning("The monitor of instance %s was killed; its exit status is unknown", identity.name)
        temporary = directory / "exit.tmp"
        temporary.write_text(json.dumps({"status": SIGKILL}), encoding="ascii")
        temporary.rename(directory / "exit")


class ExecProcess:
    """base.ExecProcess."""

    def __init__(self, job: Job, pid: int, process: ProcessEnd) -> None:
        self._pid = pid
        self._process = process
        self._result = asyncio.create_task(self._finish(job), name=f"exec {pid}")

    @property
    def pid(self) -> int:
        """Its pid on the host."""
        return self._pid

    def signal(self, signo: int) -> None:
        """Send a signal."""
        self._process.signal(signo)

    async def wait(self) -> ExitStatus:
        """Wait for its end. Raises WorkerError when the worker died."""
        return await asyncio.shield(self._result)

    async def _finish(self, job: Job) -> ExitStatus:
        try:
            message, _ = await job.receive()
        finally:
            job.close()
            self._process.close()
        status = message.get("status")
        if not isinstance(status, int):
            raise WorkerError(f"The lifecycle worker answered {message!r} to an exec")
        return exit_status(status)


class Console:
    """base.Console. The monitor counts the console as taken while the job's child lives."""

    def __init__(self, job: Job, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self._job: Job | None = job

    async def resize(self, width: int, height: int) -> None:
        """Tell init's terminal its size; nothing happens when it has ended."""
        if self._job is not None:
            try:
                await self._job.send({"width": width, "height": height})
            except WorkerError:
                pass

    def let_go(self) -> None:
        """Let others have it; what init has printed can still be read."""
        if self._job is not None:
            self._job.close()
            self._job = None

    def close(self) -> None:
        """Close it, if it is open."""
        if not self.closed:
            self.closed = True
            os.close(self.fd)
            self.let_go()
