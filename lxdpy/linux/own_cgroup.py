"""The cgroup that this process is in, to hasten what others are about to do to cgroups.

Loaded by the lean lifecycle worker: linux/cgroup.py needs dataclasses.
"""

from __future__ import annotations

import os


def open_procs(cgroup: str = "/proc/self/cgroup", mountinfo: str = "/proc/self/mountinfo") -> int:
    """A descriptor to write to cgroup.procs of this process's cgroup in some hierarchy. Raises OSError: ENOENT when no
    hierarchy is mounted."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split() for line in file]
    with open(cgroup, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for fields in mounts:
                kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
                if fields[3] == "/" and (
                    kind == "cgroup2"
                    if not controllers
                    else kind == "cgroup" and set(controllers.split(",")).issubset(options)
                ):
                    return os.open(f"{fields[4]}{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    raise FileNotFoundError(2, "No cgroup hierarchy is mounted", mountinfo)


def expect_moves(procs_fd: int) -> None:
    """Have the kernel be ready for processes that are about to move to other cgroups. Blocks, 10 ms and more.

    The first move in a while waits for an RCU grace period (cgroup_threadgroup_rwsem), those that follow it do not:
    this is the first one, to where the process is already.
    """
    try:
        os.write(procs_fd, b"0")
    except OSError:
        # Not allowed, as with v2 in a cgroup that has others below; it has waited all the same.
        pass
