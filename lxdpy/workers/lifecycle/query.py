"""What only liblxc knows of a running container."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
import time

import _lxc

from lxdpy.errors import BusyError
from lxdpy.linux import process
from lxdpy.project import plain_name
from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.zygote import Channel

CONSOLE_ATTEMPTS = 20
PTY_SLAVE_MAJORS = range(136, 144)


def find(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send {"init", "monitor"} with pidfds of both when the container runs, else {"init": 0}."""
    container = _lxc.Container(str(request["name"]), str(request["lxc_path"]))
    init = container.init_pid
    monitor = process.parent(init) if init > 0 else None
    if monitor is None:
        channel.send({"init": 0})
        return
    try:
        init_fd, monitor_fd = os.pidfd_open(init), os.pidfd_open(monitor)
    except ProcessLookupError:
        channel.send({"init": 0})
        return
    if container.init_pid != init or process.parent(init) != monitor:
        channel.send({"init": 0})
        return
    channel.send({"init": init, "monitor": monitor}, (init_fd, monitor_fd))


def console(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send a descriptor of the console's terminal, and then do what {"width", "height"} messages say.

    Raises BusyError when somebody holds the console.
    """
    name = str(request["name"])
    container = _lxc.Container(name, str(request["lxc_path"]))
    fd = _console(container, name)
    channel.send({}, (fd,))
    os.close(fd)
    # The monitor counts the console as taken while this process lives, which holds the connection that asked for it.
    while (received := channel.receive()) is not None:
        message, _ = received
        _resize(int(str(request["init_pid"])), int(str(message["width"])), int(str(message["height"])))


def _resize(init_pid: int, width: int, height: int) -> None:
    """Set the size of init's own terminal: liblxc does not pass on that of the one which it gave us."""
    try:
        root_fd = os.open(f"/proc/{init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = Rootfs(root_fd, None).open("/dev/console", os.O_PATH)
        finally:
            os.close(root_fd)
        try:
            if os.major(os.fstat(found).st_rdev) not in PTY_SLAVE_MAJORS or not stat.S_ISCHR(os.fstat(found).st_mode):
                return
            fd = os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(found)
    except OSError:
        # The container has ended, or has put something else there.
        return
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    finally:
        os.close(fd)


def _console(container: _lxc.Container, name: str) -> int:
    for attempt in range(CONSOLE_ATTEMPTS):
        try:
            fd: int = container.console_getfd(0)
        except ValueError as exc:
            if attempt == CONSOLE_ATTEMPTS - 1:
                raise BusyError(f'Cannot open the console of instance "{plain_name(name)}": it is in use') from exc
            # The monitor may not have noticed yet that the one before us is gone.
            time.sleep(0.005)
        else:
            return fd
    raise AssertionError


def version(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send {"version"} of liblxc."""
    channel.send({"version": _lxc.get_version()})
