"""The lifecycle worker: a fork server whose children call liblxc.

Run as a file by the distribution's Python with -I -S, which sees no package path at all: it adds the two it needs.
"""

from __future__ import annotations

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))]
sys.path.append("/usr/lib/python3/dist-packages")

from lxdpy.linux.heap import fill_holes  # noqa: E402
from lxdpy.workers import zygote  # noqa: E402
from lxdpy.workers.lifecycle import exec as execute  # noqa: E402
from lxdpy.workers.lifecycle import monitor, query, start  # noqa: E402

JOBS: dict[object, zygote.Run] = {
    "exec": execute.execute,
    "find": query.find,
    "console": query.console,
    "version": query.version,
}

# The first bytes of a start request (drivers/liblxc/containers.py), unless it is so large that it comes in a memfd.
START = b'J{"job":"start",'


class Child:
    """One child of the fork server, and its job."""

    def __init__(self) -> None:
        self._monitor: monitor.Monitor | None = None

    def ahead(self, packet: bytes) -> None:
        """Fork the monitor of a container that is to be started while memory is as small as it ever is."""
        if packet.startswith(START):
            self._monitor = monitor.fork()

    def run(self, request: dict[str, object], channel: zygote.Channel, fds: list[int]) -> None:
        """Do the job that the request names."""
        if request["job"] == "start":
            start.start(request, channel, fds, self._monitor or monitor.fork())
        else:
            JOBS[request["job"]](request, channel, fds)


if __name__ == "__main__":
    # For monitors, which have no memory to spare.
    os.chdir("/")
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    child = Child()
    fill_holes()
    zygote.serve(zygote.inherited_socket(), child.run, ahead=child.ahead)
