"""base.Limits as files of a container's cgroup, of v1 or v2, wherever this host has the controller.

                v1                                            v2
cpus            cpuset/cpuset.cpus                            cpuset.cpus
share           cpu/cpu.shares (1024 is all)                  cpu.weight (100 is all)
quota           cpu/cpu.cfs_quota_us, cpu.cfs_period_us       cpu.max
memory          memory/memory.limit_in_bytes                  memory.max
soft            memory/memory.soft_limit_in_bytes             memory.high
no swap         memory/memory.memsw.limit_in_bytes, or        memory.swap.max
                memory.swappiness where there is no limit
processes       pids/pids.max                                 pids.max
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from lxdpy.drivers.base import Limits
from lxdpy.errors import ConflictError, InvalidRequestError, UnsupportedError, WorkerError
from lxdpy.linux import cpu_list
from lxdpy.linux.cgroup import CgroupMounts

ONLINE = Path("/sys/devices/system/cpu/online")

Setting = tuple[str, str, str]
"""Controller, file, value."""


def choose_cpus(wanted: Limits, taken: Iterable[tuple[int, ...]], online: tuple[int, ...]) -> tuple[int, ...]:
    """The CPUs of a container: those it names, or as many as it wants of those that fewest others have; none for all.

    Raises InvalidRequestError when it names one that is not there.
    """
    if missing := [cpu for cpu in wanted.cpus if cpu not in online]:
        raise InvalidRequestError(f"Cannot pin to CPU {missing[0]}: it is not online")
    if wanted.cpus:
        return wanted.cpus
    if wanted.cpu_count is None or wanted.cpu_count >= len(online):
        return ()
    uses = Counter(cpu for cpus in taken for cpu in cpus)
    return tuple(sorted(sorted(online, key=lambda cpu: uses[cpu])[: wanted.cpu_count]))


def online_cpus() -> tuple[int, ...]:
    """The CPUs that the kernel schedules on."""
    return cpu_list.parse(ONLINE.read_text(encoding="ascii"))


def settings(mounts: CgroupMounts, limits: Limits, cpus: tuple[int, ...]) -> list[Setting]:
    """What is limited; in the order in which a new container's cgroup can be told.

    Raises UnsupportedError when this host lacks the controller.
    """
    wanted = _all(mounts, limits, cpus)
    for controller, file, value in wanted:
        if controller not in mounts.v1 and mounts.v2 is None and value is not None:
            raise UnsupportedError(f"Cannot set {file}: this host has no cgroup controller {controller}")
    return [(controller, file, value) for controller, file, value in wanted if value is not None]


def items(mounts: CgroupMounts, limits: Limits, cpus: tuple[int, ...]) -> list[tuple[str, str]]:
    """The same as liblxc's configuration. Raises UnsupportedError."""
    return [
        (f"lxc.{'cgroup' if controller in mounts.v1 else 'cgroup2'}.{file}", value)
        for controller, file, value in settings(mounts, limits, cpus)
    ]


def apply(mounts: CgroupMounts, cgroup: str, limits: Limits, cpus: tuple[int, ...], online: tuple[int, ...]) -> None:
    """Set a running container's limits; what is not limited is lifted. Blocks.

    Raises ConflictError when the kernel refuses because more is in use, UnsupportedError, WorkerError.
    """
    settings(mounts, limits, cpus)
    lifted = _lifted(online)
    pending = [
        (_directory(mounts, controller, cgroup) / file, lifted[file] if value is None else value)
        for controller, file, value in _all(mounts, limits, cpus)
    ]
    # v1 never lets memory exceed memory and swap: which of the two comes first depends on the direction.
    for attempt in range(len(pending)):
        failed = []
        for path, value in pending:
            try:
                _write(path, value)
            except FileNotFoundError:
                if value not in lifted.values():
                    raise UnsupportedError(f"Cannot set {path.name}: this host has no such limit") from None
            except OSError as exc:
                if exc.errno not in (errno.EINVAL, errno.EBUSY) or attempt == len(pending) - 1:
                    raise _error(path, value, exc) from exc
                failed.append((path, value))
        if not failed:
            return
        if len(failed) == len(pending):
            path, value = failed[0]
            raise _error(path, value, OSError(errno.EBUSY, os.strerror(errno.EBUSY)))
        pending = failed


def read_cpus(mounts: CgroupMounts, cgroup: str) -> tuple[int, ...]:
    """The CPUs that a running container was pinned to; none for all."""
    try:
        listing = (_directory(mounts, "cpuset", cgroup) / "cpuset.cpus").read_text(encoding="ascii")
    except OSError:
        return ()
    cpus = cpu_list.parse(listing)
    return () if cpus == online_cpus() else cpus


def _all(mounts: CgroupMounts, limits: Limits, cpus: tuple[int, ...]) -> list[tuple[str, str, str | None]]:
    """Every file that a limit may go to; None where there is no limit."""
    soft, hard = _memory(limits)
    found: list[tuple[str, str, str | None]] = [
        ("cpuset", "cpuset.cpus", ",".join(str(cpu) for cpu in cpus) or None),
        ("pids", "pids.max", None if limits.processes is None else str(limits.processes)),
    ]
    share, quota = limits.cpu_percent, limits.cpu_quota_ms
    if "cpu" in mounts.v1:
        found += [
            ("cpu", "cpu.shares", None if share is None else str(1024 * share // 100)),
            ("cpu", "cpu.cfs_period_us", None if quota is None else str(quota[1] * 1000)),
            ("cpu", "cpu.cfs_quota_us", None if quota is None else str(quota[0] * 1000)),
        ]
    else:
        found += [
            ("cpu", "cpu.weight", None if share is None else str(share)),
            ("cpu", "cpu.max", None if quota is None else f"{quota[0] * 1000} {quota[1] * 1000}"),
        ]
    if "memory" in mounts.v1:
        found += [
            ("memory", "memory.soft_limit_in_bytes", soft),
            ("memory", "memory.limit_in_bytes", hard),
            ("memory", "memory.memsw.limit_in_bytes", None if limits.swap else hard),
            ("memory", "memory.swappiness", None if limits.swap or hard else "0"),
        ]
    else:
        found += [
            ("memory", "memory.high", soft),
            ("memory", "memory.max", hard),
            ("memory", "memory.swap.max", None if limits.swap else "0"),
        ]
    return found


def _memory(limits: Limits) -> tuple[str | None, str | None]:
    """The soft limit and the hard one."""
    if limits.memory_bytes is None:
        return None, None
    text = str(limits.memory_bytes)
    return (text, None) if limits.memory_soft else (None, text)


def _lifted(online: tuple[int, ...]) -> Mapping[str, str]:
    """What each file says when nothing is limited."""
    return {
        "cpuset.cpus": ",".join(str(cpu) for cpu in online),
        "pids.max": "max",
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "-1",
        "cpu.weight": "100",
        "cpu.max": "max 100000",
        "memory.soft_limit_in_bytes": "-1",
        "memory.limit_in_bytes": "-1",
        "memory.memsw.limit_in_bytes": "-1",
        "memory.swappiness": "60",
        "memory.high": "max",
        "memory.max": "max",
        "memory.swap.max": "max",
    }


def _directory(mounts: CgroupMounts, controller: str, cgroup: str) -> Path:
    return Path(mounts.v1.get(controller) or mounts.v2 or "/nonexistent") / cgroup


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


def _error(path: Path, value: str, exc: OSError) -> Exception:
    if exc.errno == errno.EBUSY:
        return ConflictError(f"Cannot set {path.name} to {value}: more is in use")
    return WorkerError(f"Cannot set {path.name} to {value}: {exc.strerror}")
