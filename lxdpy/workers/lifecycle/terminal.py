"""A terminal for a command in a running container, of the container's own devpts: programs there can tell its name."""

from __future__ import annotations

import fcntl
import os
import stat
import struct

from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.zygote import Channel

PTMX = "/dev/pts/ptmx"
PTMX_DEVICE = os.makedev(5, 2)

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_FLAGS = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC


def open_terminal(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send descriptors of the master and the slave; they are the host's where the container has lost its devpts."""
    root_fd = os.open(f"/proc/{int(str(request['init_pid']))}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        master = _open_master(Rootfs(root_fd, None))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, _FLAGS)
    except OSError:
        master, slave = os.openpty()
    channel.send({}, (master, slave))


def _open_master(rootfs: Rootfs) -> int:
    """A new pty, unlocked. Raises OSError, also when the container has put something else there."""
    found = rootfs.open(PTMX, os.O_PATH)
    try:
        status = os.fstat(found)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != PTMX_DEVICE:
            raise FileNotFoundError(2, "No pty multiplexer", PTMX)
        # Opened only now that it is known to be harmless.
        master = os.open(f"/proc/self/fd/{found}", _FLAGS)
    finally:
        os.close(found)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    return master
