"""The lifecycle worker: a fork server whose children call liblxc.

Run as a file by the distribution's Python with -I -S, which sees no package path at all: it adds the two it needs.
"""

from __future__ import annotations

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))]
sys.path.append("/usr/lib/python3/dist-packages")

from lxdpy.workers import zygote  # noqa: E402
from lxdpy.workers.lifecycle import exec as execute  # noqa: E402
from lxdpy.workers.lifecycle import query, start  # noqa: E402

JOBS: dict[object, zygote.Run] = {
    "start": start.start,
    "exec": execute.execute,
    "find": query.find,
    "console": query.console,
    "version": query.version,
}


def run(request: dict[str, object], channel: zygote.Channel, fds: list[int]) -> None:
    """Do the job that the request names."""
    JOBS[request["job"]](request, channel, fds)


if __name__ == "__main__":
    zygote.serve(zygote.inherited_socket(), run)
