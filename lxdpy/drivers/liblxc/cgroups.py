"""The cgroups of containers, in every hierarchy: remove what a killed monitor left, freeze and thaw.

CGROUP            the container's (base.StartSpec.cgroup)
CGROUP.monitor    its monitor's
PARENT/.pivot     where monitors go to remove their own; shared by all that have the same parent
"""

import errno
import os
import time

from lxdpy.errors import WorkerError
from lxdpy.linux.cgroup import CgroupMounts

FREEZE_TIMEOUT_S = 10.0
PIVOT_CHILD = "lxc.pivot"
"""liblxc makes it below the pivot."""


def monitor_cgroup(cgroup: str) -> str:
    """The cgroup of the container's monitor."""
    return f"{cgroup}.monitor"


def pivot_cgroup(cgroup: str) -> str:
    """The cgroup that monitors end in."""
    return f"{os.path.dirname(cgroup)}/.pivot"


def exists(mounts: CgroupMounts, cgroup: str) -> bool:
    """Whether a container of this cgroup may run, or has left something."""
    return any(os.path.isdir(f"{root}/{name}") for root in mounts.roots for name in (cgroup, monitor_cgroup(cgroup)))


def remove(mounts: CgroupMounts, cgroup: str, *, pivot: bool) -> None:
    """Remove the cgroups of a container that has ended, with what it made beneath; of its siblings' pivot too if that
    is empty and `pivot` says so. Processes of the container that outlived its init are killed. Blocks."""
    for root in mounts.roots:
        for name in (cgroup, monitor_cgroup(cgroup)):
            _remove_tree(f"{root}/{name}")
        if pivot:
            _rmdir(f"{root}/{pivot_cgroup(cgroup)}/{PIVOT_CHILD}")
            _rmdir(f"{root}/{pivot_cgroup(cgroup)}")


def remove_parent(mounts: CgroupMounts, cgroup: str) -> None:
    """Remove the parent of a container's cgroup, with the pivot in it, where nothing runs below any more. Blocks."""
    pivot = pivot_cgroup(cgroup)
    for root in mounts.roots:
        for name in (f"{pivot}/{PIVOT_CHILD}", pivot, os.path.dirname(cgroup)):
            if not _rmdir(f"{root}/{name}"):
                break


def set_frozen(mounts: CgroupMounts, cgroup: str, *, frozen: bool) -> None:
    """Freeze or thaw, and wait until it is done. Blocks. Raises WorkerError."""
    deadline = time.monotonic() + FREEZE_TIMEOUT_S
    try:
        if "freezer" in mounts.v1:
            word = "FROZEN" if frozen else "THAWED"
            _write(f"{mounts.v1['freezer']}/{cgroup}/freezer.state", word)
        else:
            _write(f"{mounts.v2}/{cgroup}/cgroup.freeze", "1" if frozen else "0")
        while is_frozen(mounts, cgroup) != frozen:
            if time.monotonic() > deadline:
                thaw(mounts, cgroup)
                raise WorkerError(f"Cannot freeze {cgroup}: its processes do not stop")
            time.sleep(0.001)
    except OSError as exc:
        raise WorkerError(f"Cannot {'freeze' if frozen else 'thaw'} {cgroup}: {exc.strerror}") from exc


def thaw(mounts: CgroupMounts, cgroup: str) -> None:
    """Begin to thaw, so that a SIGKILL has its effect (v1). Nothing happens when the cgroup is gone."""
    if "freezer" in mounts.v1:
        try:
            _write(f"{mounts.v1['freezer']}/{cgroup}/freezer.state", "THAWED")
        except FileNotFoundError:
            pass


def is_frozen(mounts: CgroupMounts, cgroup: str) -> bool:
    """Whether every process is frozen; False when there is no such container."""
    try:
        if "freezer" in mounts.v1:
            return _read(f"{mounts.v1['freezer']}/{cgroup}/freezer.state") == "FROZEN\n"
        return "\nfrozen 1\n" in _read(f"{mounts.v2}/{cgroup}/cgroup.events")
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV):
            return False
        raise


def _remove_tree(path: str) -> None:
    """Remove a cgroup and those beneath it, deepest first."""
    if _rmdir(path):
        return
    for directory, _, _ in os.walk(path, topdown=False):
        if not _rmdir(directory):
            _kill(directory)
            # The dead leave a cgroup a little after they are gone.
            for _ in range(100):
                if _rmdir(directory):
                    break
                time.sleep(0.002)


def _kill(directory: str) -> None:
    for line in _read(f"{directory}/cgroup.procs").split():
        try:
            os.kill(int(line), 9)
        except ProcessLookupError:
            pass


def _rmdir(path: str) -> bool:
    """Whether there is no such cgroup any more."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
