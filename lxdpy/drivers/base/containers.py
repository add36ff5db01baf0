"""Containers: liblxc, through the lifecycle worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lxdpy.drivers.base.files import FileSession, StoppedRootfs
from lxdpy.drivers.base.layers import LowerMount


@dataclass(frozen=True, slots=True)
class IdMap:
    """Container ids 0..size-1 are host ids base..base+size-1, for users and groups alike."""

    base: int
    size: int


@dataclass(frozen=True, slots=True)
class BindFile:
    """A host file shown in the container, e.g. resolv.conf. `target` is absolute in the rootfs."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A file of the instance's own layer, written before its start. `target` is absolute in the rootfs."""

    target: str
    text: str
    create_only: bool
    """Leave a file that is there as it is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the host a container may use; what is not given is not limited."""

    cpu_count: int | None = None
    """So many CPUs, whichever."""
    cpus: tuple[int, ...] = ()
    """Just these CPUs."""
    cpu_percent: int | None = None
    """Its share against others' when CPUs are scarce, of 100."""
    cpu_quota_ms: tuple[int, int] | None = None
    """At most so many milliseconds in each period of so many."""
    memory_bytes: int | None = None
    memory_soft: bool = False
    """Memory may exceed its limit while the host has enough."""
    swap: bool = True
    """Whether its memory may be swapped out."""
    processes: int | None = None
    """Processes and threads."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A directory or file of this host, shown in a container."""

    name: str
    """The device's."""
    source: str
    target: str
    """Absolute in the rootfs; made there if missing."""
    readonly: bool = False
    recursive: bool = False
    """With what is mounted below the source."""
    shifted: bool = False
    """Its ids on disk are the container's own; else the host's, whatever the container makes of these."""
    required: bool = True
    """A missing source is an error."""


@dataclass(frozen=True, slots=True)
class StartSpec:
    """Everything a start child needs to start one container."""

    name: str
    lxc_path: str
    """liblxc's lxcpath: with `name` it names the monitor's command socket."""
    directory: str
    """The instance's directory: holds RW/{upper,work}; gets rootfs, exit, console.log, lxc.log."""
    rw: str
    """Name of the writable layer's directory in there."""
    lowers: tuple[LowerMount, ...]
    """Topmost first."""
    idmap: IdMap | None
    """None: privileged."""
    cgroup: str
    """Path below each cgroup hierarchy's root, e.g. `lxdpy-1a2b/web`."""
    items: tuple[tuple[str, str], ...]
    """liblxc configuration items in order; list keys may repeat. Never holds NUL or line breaks."""
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    user: str
    """`uid`, `name`, `uid:gid`, `name:group` ...; looked up in the rootfs's /etc/passwd and /etc/group. "" is root."""
    cwd: str
    init: bool
    """Run lxc-init as PID 1, which reaps, instead of argv itself."""
    files: tuple[BindFile, ...] = ()
    disks: tuple[DiskSpec, ...] = ()
    system: bool = False
    """argv is the init of a distribution: its environment is `environment` alone, and it may halt and reboot."""
    templates: tuple[TemplateFile, ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a container's init, or an exec'd process, ended: exactly one is set."""

    code: int | None
    signal: int | None

    @property
    def shell_code(self) -> int:
        """The exit code as a shell would give it: 128 + n for signal n."""
        if self.code is not None:
            return self.code
        return 128 + (self.signal or 0)


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command to run in a running container."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    """The whole environment: nothing is inherited. HOME is added from /etc/passwd when absent."""
    uid: int | None = None
    gid: int | None = None
    user: str = ""
    """Used when `uid` is None; as in StartSpec."""
    cwd: str = ""
    """"" is the user's home, or / when there is none."""
    terminal: bool = False
    """stdin is a pty slave that becomes the controlling terminal of a new session."""


class Console(Protocol):
    """The terminal of a container's init, held by whoever got it, and nobody else meanwhile."""

    @property
    def fd(self) -> int:
        """What init prints can be read here, and what is written is its input. Closed by `close`."""

    async def resize(self, width: int, height: int) -> None:
        """Tell init's terminal its size."""

    def close(self) -> None:
        """Let others have it; nothing happens when it is closed."""


class ExecProcess(Protocol):
    """A command that runs in a container."""

    @property
    def pid(self) -> int:
        """Its pid on the host."""

    def signal(self, signo: int) -> None:
        """Send a signal; nothing happens when it has ended."""

    async def wait(self) -> ExitStatus:
        """Wait for its end. Code 126: not executable; 127: not found. Raises WorkerError when the worker died."""


class RunningContainer(Protocol):
    """A container whose init runs, or has just ended."""

    @property
    def name(self) -> str: ...

    @property
    def init_pid(self) -> int: ...

    @property
    def monitor_pid(self) -> int: ...

    @property
    def started_at(self) -> float:
        """Seconds since the epoch."""

    def signal(self, signo: int) -> None:
        """Send a signal to init (pidfd). Nothing happens when it has ended."""

    def halt_signal(self) -> int:
        """The signal that has this init halt the system, as far as it has shown yet which it is: SIGRTMIN+3 for
        systemd, else SIGPWR."""

    async def init_ended(self) -> None:
        """Wait until init has ended. May be awaited by many; returns at once ever after."""

    async def released(self) -> ExitStatus:
        """Wait until the monitor has ended too: mounts, veth and cgroups are gone and the exit status is known."""

    async def limit(self, limits: Limits) -> None:
        """Set what it may use from now on. Raises ConflictError when it uses more, InvalidRequestError for a CPU that
        is not there, UnsupportedError for what this host can't limit, WorkerError."""

    async def change_disks(self, detach: Sequence[DiskSpec], attach: Sequence[DiskSpec]) -> None:
        """Take disks away and show others. Raises InvalidRequestError, ConflictError, WorkerError; all is as before
        then."""

    async def freeze(self) -> None:
        """Freeze every process."""

    async def unfreeze(self) -> None:
        """Thaw."""

    async def is_frozen(self) -> bool:
        """Whether the container is frozen."""

    async def exec(self, spec: ExecSpec, stdin: int, stdout: int, stderr: int) -> ExecProcess:
        """Run a command on these file descriptors, which the caller closes. Raises WorkerError, ConflictError."""

    async def open_terminal(self) -> tuple[int, int]:
        """Master and slave of a new pty for a command: one of the container's, so that it has a name there. The caller
        closes both. Raises WorkerError, ConflictError."""

    async def console(self) -> Console:
        """The console. Raises BusyError when it is taken, ConflictError, WorkerError."""

    async def files(self) -> FileSession:
        """A session on its files, for as long as it runs. Raises ConflictError, WorkerError."""


class Containers(Protocol):
    """liblxc."""

    async def start(self, spec: StartSpec) -> RunningContainer:
        """Start and wait until it runs. Raises InvalidRequestError (entrypoint, user or cwd that can't be, naming it),
        ConflictError (runs already), WorkerError; leaves nothing behind when it raises."""

    async def adopt(self, name: str, lxc_path: str, directory: str, cgroup: str) -> RunningContainer | None:
        """The container as an earlier daemon left it, or None when it does not run; clears what a dead one left."""

    async def files(self, rootfs: StoppedRootfs) -> FileSession:
        """A session on the files of a container that does not run. It must be closed before the container is started,
        or its layers are used in another way. Raises WorkerError."""

    async def last_exit(self, directory: str) -> ExitStatus | None:
        """The exit status that the last monitor wrote, if any."""

    async def version(self) -> str:
        """liblxc's version."""

    async def close(self) -> None:
        """End the worker; containers go on."""
