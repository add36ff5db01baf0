"""The lifecycle worker: a fork server whose children call liblxc.

Run as a file by the distribution's Python with -I -S, which sees no package path at all: it adds the two it needs.
"""

from __future__ import annotations

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))]
sys.path.append("/usr/lib/python3/dist-packages")

from lxdpy.linux import own_cgroup  # noqa: E402
from lxdpy.linux.heap import fill_holes  # noqa: E402
from lxdpy.workers import zygote  # noqa: E402
from lxdpy.workers.lifecycle import disks, files, monitor, query, start, terminal  # noqa: E402
from lxdpy.workers.lifecycle import exec as execute  # noqa: E402

JOBS: dict[object, zygote.Run] = {
    "exec": execute.execute,
    "disks": disks.change,
    "find": query.find,
    "console": query.console,
    "terminal": terminal.open_terminal,
    "files": files.files,
    "version": query.version,
}

# The first bytes of a start request (drivers/liblxc/containers.py), unless it is so large that it comes in a memfd.
START = b'J{"job":"start",'


class Child:
    """One child of the fork server, and its job."""

    def __init__(self, cgroup_fd: int) -> None:
        self._cgroup_fd = cgroup_fd
        self._monitor: monitor.Monitor | None = None

    def ahead(self, packet: bytes) -> None:
        """Fork the monitor of a container that is to be started while memory is as small as it ever is."""
        if packet.startswith(START):
            self._monitor = monitor.fork(self._cgroup_fd)

    def run(self, request: dict[str, object], channel: zygote.Channel, fds: list[int]) -> None:
        """Do the job that the request names."""
        if request["job"] == "start":
            start.start(request, channel, fds, self._monitor or monitor.fork(self._cgroup_fd))
        else:
            JOBS[request["job"]](request, channel, fds)


if __name__ == "__main__":
    # For monitors, which have no memory to spare.
    os.chdir("/")
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    sock = zygote.inherited_socket()
    child = Child(own_cgroup.open_procs())
    fill_holes()
    zygote.serve(sock, child.run, ahead=child.ahead)
