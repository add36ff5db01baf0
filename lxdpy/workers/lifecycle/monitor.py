"""The process that starts one container in the foreground, and stays as its monitor until it has ended.

    DIRECTORY/exit   {"status": WAIT_STATUS, "time": SECONDS}   written when init has ended, for whoever asks, later

    start child                          monitor
    fork() ────────────────────────────> session and mount namespace of its own
    enter() <─────────────────────────── READY
    mounts, in that namespace
    go() ──── plan, end-of-file ───────> configure
    <──────── what is wrong with it ──── or end-of-file: start the container

Each page that the monitor writes to is memory for as long as the container runs, and it writes to each object that it
so much as looks at: to its reference count. So it is forked when the start child has touched nothing yet, leaves to
that one what it can, and does the rest in one function, by global names that need no search. What is mounted in its
namespace is never seen on the host, and goes when the monitor does.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from _signal import SIG_DFL, SIGCHLD, SIGPIPE  # type: ignore[import-not-found]
from _signal import signal as set_signal
from collections.abc import Sequence
from os import _exit, close, closerange, dup2, pipe, putenv, read, setsid, unsetenv, write
from os import fork as fork_process
from os import open as open_file

from _lxc import Container

from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.linux import mount
from lxdpy.linux.mount import CLONE_NEWNS, unshare
from lxdpy.linux.own_cgroup import expect_moves

# Where liblxc finds apparmor_parser, and does not find newuidmap: that would refuse ids which /etc/subuid does not give
# to root, and without it liblxc writes the id map itself.
_PATH = "/usr/sbin:/sbin"
_READ_BYTES = 16 * 1024
_READY = b"\0"
_PLAN_FD, _ANSWER_FD, _CGROUP_FD = 3, 4, 5
_MAX_FD = os.sysconf("SC_OPEN_MAX")
_TERMINAL = os.O_RDWR | os.O_NOCTTY
_ESCAPE = "surrogateescape"


class _LxcContainer(ctypes.Structure):
    """struct lxc_container of lxccontainer.h up to error_num, which the binding does not show."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("configfile", ctypes.c_void_p),
        ("pidfile", ctypes.c_void_p),
        ("slock", ctypes.c_void_p),
        ("privlock", ctypes.c_void_p),
        ("numthreads", ctypes.c_int),
        ("lxc_conf", ctypes.c_void_p),
        ("error_string", ctypes.c_char_p),
        ("error_num", ctypes.c_int),
    )


class _PyContainer(ctypes.Structure):
    """The binding's object: a Python header and the container."""

    _fields_ = (
        ("refcount", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("container", ctypes.POINTER(_LxcContainer)),
    )


class Plan:
    """What a monitor starts."""

    def __init__(
        self,
        name: str,
        lxc_path: str,
        directory: str,
        items: Sequence[tuple[str, str]],
        environment: Sequence[tuple[str, str]],
        argv: Sequence[str],
        *,
        init: bool,
    ) -> None:
        self.name = name
        self.lxc_path = lxc_path
        self.directory = directory
        self.items = items
        self.environment = environment
        self.argv = argv
        self.init = init

    def encode(self) -> bytes:
        """As `_run` reads it: the length of the rest, and texts with a NUL between them."""
        words = [self.name, self.lxc_path, self.directory, "init" if self.init else ""]
        words += (str(len(self.items)), str(len(self.environment)))
        for pair in (*self.items, *self.environment):
            words += pair
        data = "\0".join((*words, *self.argv)).encode("utf-8", _ESCAPE)
        return b"%d\0%b" % (len(data), data)


class Monitor:
    """The start child's side."""

    def __init__(self, pid: int, plan_fd: int, answer_fd: int) -> None:
        self.pid = pid
        self._plan_fd = plan_fd
        self._answer_fd = answer_fd

    def enter(self) -> None:
        """Enter the monitor's mount namespace, for what is to be attached there. Raises WorkerError."""
        answer = os.read(self._answer_fd, len(_READY))
        if answer != _READY:
            answer += self._rest()
            raise WorkerError(f"Cannot make a mount namespace: {answer.decode() or 'the monitor died'}")
        try:
            fd = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                mount.setns(fd, CLONE_NEWNS)
            finally:
                os.close(fd)
            # The host's unmounts reach this namespace; nothing of this one reaches the host.
            mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
        except OSError as exc:
            raise WorkerError(f"Cannot enter the monitor's mount namespace: {exc.strerror}") from exc

    def go(self, plan: Plan) -> None:
        """Let it start the container; returns when it does. Raises InvalidRequestError for what liblxc refuses."""
        data = memoryview(plan.encode())
        try:
            while data:
                data = data[os.write(self._plan_fd, data) :]
        except BrokenPipeError:
            # It has died: whoever waits until the container runs is told.
            pass
        os.close(self._plan_fd)
        if refused := self._rest():
            raise InvalidRequestError(refused.decode("utf-8", _ESCAPE))

    def _rest(self) -> bytes:
        """What it says until it starts the container, or dies."""
        with open(self._answer_fd, "rb") as file:
            return file.read()


def fork(cgroup_fd: int) -> Monitor:
    """Fork a monitor, which waits for what is to be started. It ends when the caller does before that.

    `cgroup_fd` is own_cgroup.open_procs().
    """
    plan_read, plan_write = pipe()
    answer_read, answer_write = pipe()
    pid = fork_process()
    if pid == 0:
        try:
            dup2(plan_read, _PLAN_FD)
            dup2(answer_write, _ANSWER_FD)
            dup2(cgroup_fd, _CGROUP_FD)
            closerange(_CGROUP_FD + 1, _MAX_FD)
            _run()
        except Exception as exc:  # noqa: BLE001 - told to the start child, if it still listens
            write(_ANSWER_FD, f"{type(exc).__name__}: {exc}".encode("utf-8", _ESCAPE))
        finally:
            _exit(1)
    os.close(plan_read)
    os.close(answer_write)
    return Monitor(pid, plan_write, answer_read)


def _run() -> None:
    """Be the monitor of the container that the plan describes; ends this process when the container has ended."""
    setsid()
    unshare(CLONE_NEWNS)
    write(_ANSWER_FD, _READY)
    # While there is nothing to start yet.
    expect_moves(_CGROUP_FD)
    data = b""
    while part := read(_PLAN_FD, _READ_BYTES):
        data += part
    length, _, data = data.partition(b"\0")
    if not length or len(data) != int(length):
        # The start child was killed.
        return
    name, lxc_path, directory, init, items, environment, data = data.split(b"\0", 6)
    container = Container(name.decode(), lxc_path.decode())
    container.clear_config()
    # Only with a file does liblxc give the configuration the container's name, which AppArmor profiles are named after.
    if not container.load_config("/dev/null"):
        write(_ANSWER_FD, b"liblxc cannot read /dev/null")
        return
    # One pair after the other, in memory that is used again: all strings at once would take pages of every size class.
    position = 0
    for number in range(-int(items), int(environment)):
        middle = data.index(0, position)
        end = data.index(0, middle + 1)
        key = data[position:middle].decode()
        if number < 0:
            if not container.set_config_item(key, data[middle + 1 : end].decode()):
                write(
                    _ANSWER_FD,
                    b'liblxc refuses the configuration item %b = "%b"' % tuple(data[position:end].split(b"\0")),
                )
                return
        else:
            # By name alone liblxc takes the value from its own environment: no value passes through its parser.
            putenv(data[position:middle], data[middle + 1 : end])
            if not container.set_config_item("lxc.environment", key):
                write(_ANSWER_FD, b"liblxc refuses the environment variable %b" % data[position:middle])
                return
            unsetenv(data[position:middle])
        position = end + 1
    putenv("PATH", _PATH)
    argv = tuple([word.decode("utf-8", _ESCAPE) for word in data[position:].split(b"\0")])
    if init:
        # Only where stdio is a terminal does lxc-init get the container's console instead: a pty master counts as one.
        terminal = open_file("/dev/ptmx", _TERMINAL)
        dup2(terminal, 0)
        close(terminal)
    # /dev/null, or that: nothing of the daemon's, which the container would inherit.
    dup2(0, 1)
    dup2(0, 2)
    # The fork server ignores these, and so would the container's init.
    set_signal(SIGCHLD, SIG_DFL)
    set_signal(SIGPIPE, SIG_DFL)
    closerange(_PLAN_FD, _CGROUP_FD + 1)
    # A tuple: liblxc's binding crashes on a list.
    if container.start(bool(init), False, True, argv):
        status = _PyContainer.from_address(id(container)).container.contents.error_num
        _write_exit(directory.decode(), status)
        _exit(0)


def _write_exit(directory: str, status: int) -> None:
    """Leave the wait status for the daemon; whole or not at all."""
    temporary = f"{directory}/exit.tmp"
    with open(temporary, "w", encoding="ascii") as file:
        json.dump({"status": status, "time": time.time()}, file)
    os.rename(temporary, f"{directory}/exit")
