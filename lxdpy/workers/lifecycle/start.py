"""Start one container: prepare its root file system, let a monitor start it, report when it runs.

start child                              monitor (monitor.py), forked ahead of everything
idmapped layers -> overlay (detached)    own mount namespace
attach it there, with disks and files
user, cwd, argv[0], templates in the rootfs
configuration ─────────────────────────> configure
                                         liblxc start, in the foreground
asks liblxc for init's pid <──────────── answers once the container runs
DIRECTORY/run.json, then the daemon

DIRECTORY/run.json   {"monitor", "monitor_start", "init", "init_start", "time"}   pids and their start times in
                     clock ticks: what the next daemon needs to find the container again
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time
from contextlib import ExitStack

import _lxc

from lxdpy.drivers.overlay.stack import Owner, clone_file, mount_stack
from lxdpy.errors import ConflictError, InvalidRequestError, WorkerError
from lxdpy.linux import mount, process
from lxdpy.linux.idmap import open_userns
from lxdpy.project import plain_name
from lxdpy.workers.lifecycle import accounts, config, disks, monitor
from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.zygote import Channel

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLL_MS = 1
_LOG_TAIL_BYTES = 64 * 1024
_STALE = ("exit", "exit.tmp", "run.json", "run.json.tmp", "lxc.log")


def start(request: dict[str, object], channel: Channel, fds: list[int], waiting: monitor.Monitor) -> None:
    """Do a start job: `request` is a StartSpec as JSON; fds hold the user namespace of its id map, if one is at hand;
    `waiting` becomes the container's monitor.

    Sends {"userns"} with a descriptor when it had to make one, {"monitor"} with a pidfd, then {"running"} with init's
    pidfd, or without when the container has ended already. Raises what base.Containers.start promises; then nothing is
    left but cgroups of a monitor that was killed.
    """
    spec = Spec(request)
    container = _lxc.Container(spec.name, spec.lxc_path)
    if container.init_pid > 0:
        raise ConflictError(f'Cannot start instance "{plain_name(spec.name)}": it is running')
    for name in _STALE:
        _unlink(f"{spec.directory}/{name}")
    os.makedirs(f"{spec.directory}/rootfs", exist_ok=True)
    pidfd = os.pidfd_open(waiting.pid)
    try:
        channel.send({"monitor": waiting.pid}, (pidfd,))
        with ExitStack() as stack:
            root_fd, owner = _prepare(spec, channel, fds)
            stack.callback(os.close, root_fd)
            waiting.enter()
            plan = _plan(spec, root_fd, owner, stack)
        waiting.go(plan)
        init_pid = _wait_until_running(spec, container, pidfd)
    except BaseException as exc:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(waiting.pid, 0)
        if isinstance(exc, InvalidRequestError) and "Cannot start" not in str(exc):
            raise type(exc)(f'Cannot start instance "{plain_name(spec.name)}": {exc}') from exc
        raise
    _report(spec, channel, waiting.pid, init_pid)


class Spec:
    """base.StartSpec, as this side reads it."""

    def __init__(self, request: dict[str, object]) -> None:
        self.name = str(request["name"])
        self.lxc_path = str(request["lxc_path"])
        self.directory = str(request["directory"])
        self.rw = str(request["rw"])
        self.lowers = _pairs(request["lowers"])
        self.idmap: tuple[int, int] | None = None
        match request["idmap"]:
            case [int(base), int(size)]:
                self.idmap = (base, size)
        self.cgroup = str(request["cgroup"])
        self.items = _pairs(request["items"])
        self.argv = _strings(request["argv"])
        self.environment = dict(_pairs(request["environment"]))
        self.user = str(request["user"])
        self.cwd = "/" + str(request["cwd"]).lstrip("/")
        self.init = request["init"] is True
        self.files = _pairs(request["files"])
        self.disks = disks.parse(request["disks"])
        self.system = request["system"] is True
        self.templates = _templates(request["templates"])
        self.mount_by_name = request.get("mount_by_name") is True
        """Mount the layers as on old kernels, whatever this one can do."""


def _prepare(spec: Spec, channel: Channel, fds: list[int]) -> tuple[int, Owner | None]:
    """The root file system, not attached yet, and who its root is on the host."""
    owner = _owner(spec, channel, fds)
    scratch = f"{spec.directory}/rootfs"
    rw = f"{spec.directory}/{spec.rw}"
    return mount_stack(spec.lowers, rw, owner, scratch, by_name=spec.mount_by_name), owner


def _plan(spec: Spec, root_fd: int, owner: Owner | None, stack: ExitStack) -> monitor.Plan:
    """Attach everything in the monitor's namespace, where the caller is, look around there, and say what is to be done.

    Raises InvalidRequestError, WorkerError.
    """
    rootfs = Rootfs(root_fd, owner)
    try:
        root = f"{spec.directory}/rootfs"
        mount.move_mount(root_fd, root)
        shown = disks.show(spec.disks, rootfs, root, owner, stack)
        _show_files(spec, rootfs, owner, stack)
    except OSError as exc:
        raise WorkerError(f"Cannot attach the root file system: {exc.strerror} {exc.filename or ''}") from exc
    account = accounts.resolve(spec.user, rootfs.read_text)
    size = spec.idmap[1] if spec.idmap else accounts.MAX_ID + 1
    if unmapped := [number for number in (account.uid, account.gid, *account.groups) if number >= size]:
        raise InvalidRequestError(f'user "{spec.user}" has id {unmapped[0]}, and its id map ends at {size - 1}')
    os.close(rootfs.make_directory(spec.cwd))
    environment = spec.environment
    if not spec.system:
        environment = {"PATH": DEFAULT_PATH, "HOME": account.home, **environment}
    for target, text, create_only in spec.templates:
        rootfs.write(target, text.encode("utf-8", "surrogateescape"), create_only=create_only)
    if not any(key == "lxc.mount.entry" for key, _ in spec.items):
        # What liblxc is told to mount besides disks is not there yet, and a program may well lie in it.
        rootfs.check_executable(spec.argv[0], environment.get("PATH", DEFAULT_PATH), spec.cwd)
    items = [
        *config.defaults(spec.directory, spec.cgroup, spec.idmap, system=spec.system),
        ("lxc.init.uid", str(account.uid)),
        ("lxc.init.gid", str(account.gid)),
        ("lxc.init.cwd", spec.cwd),
    ]
    if account.groups:
        items.append(("lxc.init.groups", ",".join(str(group) for group in account.groups)))
    if not any(key.startswith("lxc.net.") for key, _ in spec.items):
        items.append(("lxc.net.0.type", "empty"))
    try:
        items += disks.lay_aside(shown, spec.directory)
    except OSError as exc:
        raise WorkerError(f"Cannot lay the disks aside: {exc.strerror} {exc.filename or ''}") from exc
    return monitor.Plan(
        spec.name,
        spec.lxc_path,
        spec.directory,
        [*items, *spec.items],
        list(environment.items()),
        spec.argv,
        init=spec.init,
    )


def _show_files(spec: Spec, rootfs: Rootfs, owner: Owner | None, stack: ExitStack) -> None:
    """Attach the host's files, on top of what disks show. Raises OSError."""
    for source, target in spec.files:
        try:
            file_fd = clone_file(source, owner)
        except OSError as exc:
            raise WorkerError(f"Cannot show {source} in the container: {exc.strerror}") from exc
        stack.callback(os.close, file_fd)
        target_fd = rootfs.make_file(target)
        stack.callback(os.close, target_fd)
        mount.move_mount(file_fd, target_fd)


def _owner(spec: Spec, channel: Channel, fds: list[int]) -> Owner | None:
    """The container's root on the host. A user namespace made here goes to the daemon, for the next start."""
    if spec.idmap is None:
        return None
    base, size = spec.idmap
    if fds:
        return Owner(fds[0], base)
    try:
        userns_fd = open_userns(base, size)
    except OSError as exc:
        raise WorkerError(f"Cannot make a user namespace of ids {base}..{base + size - 1}: {exc.strerror}") from exc
    channel.send({"userns": [base, size]}, (userns_fd,))
    return Owner(userns_fd, base)


def _wait_until_running(spec: Spec, container: _lxc.Container, pidfd: int) -> int:
    """Init's pid once the container runs; 0 when it has ended by now. Raises WorkerError when it did not start."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    while not poll.poll(_POLL_MS):
        # Until the monitor listens this fails; then it waits until the container runs.
        pid: int = container.init_pid
        if pid > 0:
            return pid
    if os.path.exists(f"{spec.directory}/exit"):
        return 0
    raise WorkerError(f'Cannot start instance "{plain_name(spec.name)}": {_cause(spec.directory)}')


def _report(spec: Spec, channel: Channel, monitor_pid: int, init_pid: int) -> None:
    """Write run.json and tell the daemon. Kills a container that no daemon is left to hear of; raises OSError then."""
    now = time.time()
    init_fd = _open_init(init_pid, monitor_pid)
    record: dict[str, object] = {
        "monitor": monitor_pid,
        "monitor_start": process.start_time(monitor_pid),
        "init": init_pid,
        "init_start": process.start_time(init_pid) if init_fd is not None else None,
        "time": now,
    }
    if record["monitor_start"] is not None:
        temporary = f"{spec.directory}/run.json.tmp"
        with open(temporary, "w", encoding="ascii") as file:
            json.dump(record, file)
        os.rename(temporary, f"{spec.directory}/run.json")
    try:
        channel.send({"running": init_pid, "time": now}, () if init_fd is None else (init_fd,))
    except OSError:
        # Its monitor lives, and clears up.
        if init_fd is not None:
            signal.pidfd_send_signal(init_fd, signal.SIGKILL)
        raise


def _open_init(init_pid: int, monitor_pid: int) -> int | None:
    """A pidfd of init; None when it has ended, whoever has the pid now."""
    if not init_pid:
        return None
    try:
        init_fd = os.pidfd_open(init_pid)
    except ProcessLookupError:
        return None
    if process.parent(init_pid) != monitor_pid:
        os.close(init_fd)
        return None
    return init_fd


def _cause(directory: str) -> str:
    """Why liblxc failed: the first error in its log, without its place in the source."""
    try:
        with open(f"{directory}/lxc.log", "rb") as file:
            text = file.read(_LOG_TAIL_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        text = ""
    errors = re.findall(r" ERROR +\S+ +- \S+:\d+ - (.*)", text)
    return "; ".join(errors[:2]) if errors else "liblxc gave no reason"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"Expected a list of texts, got {value!r}")
    return value


def _templates(value: object) -> list[tuple[str, str, bool]]:
    if not isinstance(value, list):
        raise ValueError(f"Expected a list of templates, got {value!r}")
    return [(str(target), str(text), create_only is True) for target, text, create_only in value]


def _pairs(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        raise ValueError(f"Expected a list of pairs, got {value!r}")
    return [(first, second) for first, second in (_strings(pair) for pair in value)]
