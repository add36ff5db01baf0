"""The volume worker: copies or measures one tree, then ends.

Run as a file by drivers.volumes, with -I -S: `volumes.py copy SOURCE TARGET` or `volumes.py usage PATH`. What it found,
or what went wrong, is one JSON object on stdout: {"used": BYTES} or {"error": KIND, "message": TEXT}.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]

from lxdpy.linux.copy_tree import copy_tree, disk_usage  # noqa: E402
from lxdpy.linux.syncfs import syncfs  # noqa: E402


def main() -> None:
    """Do the one job that the command line names."""
    os.umask(0)
    # A descriptor a level: trees may be as deep as somebody liked.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    answer: dict[str, object] = {}
    try:
        match sys.argv[1:]:
            case ["copy", source, target]:
                copy_tree(source, target)
                _sync(target)
            case ["usage", path]:
                answer = {"used": disk_usage(path)}
            case other:
                raise ValueError(f"Unknown job {other!r}")
    except OSError as exc:
        kind = "NoSpaceError" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else "WorkerError"
        name = exc.filename
        where = f" ({os.fsdecode(name)!r})" if isinstance(name, str | bytes) else ""
        answer = {"error": kind, "message": f"{exc.strerror or exc}{where}"}
    sys.stdout.write(json.dumps(answer))


def _sync(path: str) -> None:
    """What is named in the database is there after a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    syncfs(fd)
    os.close(fd)


if __name__ == "__main__":
    main()
