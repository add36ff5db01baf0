"""One container's cgroup files, of v1, v2, or each controller where it lives on a hybrid host.

             v1                                      v2
processes    pids/pids.current                       pids.current
cpu          cpuacct/cpuacct.usage (ns)              cpu.stat usage_usec
memory       memory/memory.usage_in_bytes            memory.current
peak         memory/memory.max_usage_in_bytes        memory.peak (kernel 5.19)
limit        memory/memory.limit_in_bytes            memory.max
swap         memory/memory.memsw.* less memory's     memory.swap.current, memory.swap.peak (kernel 6.5)
"""

import errno
import os
from dataclasses import dataclass

from lxdpy.linux.cgroup import CgroupMounts

# v1 says "unlimited" by the largest multiple of the page size that fits a long.
_UNLIMITED = 1 << 62
_READ_BYTES = 8192


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """Numbers of one cgroup; 0 for what is not there (any more)."""

    processes: int
    cpu_ns: int
    memory_bytes: int
    memory_peak_bytes: int
    memory_limit_bytes: int | None
    swap_bytes: int
    swap_peak_bytes: int


def read_cgroup(mounts: CgroupMounts, cgroup: str) -> CgroupUsage:
    """Read the files of the container whose cgroup is `cgroup` below each hierarchy's root."""
    memory, peak, limit, swap, swap_peak = _memory(mounts, cgroup)
    return CgroupUsage(
        processes=_processes(mounts, cgroup),
        cpu_ns=_cpu_ns(mounts, cgroup),
        memory_bytes=memory,
        memory_peak_bytes=peak,
        memory_limit_bytes=limit,
        swap_bytes=swap,
        swap_peak_bytes=swap_peak,
    )


def _processes(mounts: CgroupMounts, cgroup: str) -> int:
    root = mounts.v1.get("pids", mounts.v2)
    return 0 if root is None else _number(f"{root}/{cgroup}/pids.current") or 0


def _cpu_ns(mounts: CgroupMounts, cgroup: str) -> int:
    root = mounts.v1.get("cpuacct")
    if root is not None:
        return _number(f"{root}/{cgroup}/cpuacct.usage") or 0
    if mounts.v2 is None:
        return 0
    for line in _read(f"{mounts.v2}/{cgroup}/cpu.stat").splitlines():
        key, _, value = line.partition(b" ")
        if key == b"usage_usec":
            return int(value) * 1000
    return 0


def _memory(mounts: CgroupMounts, cgroup: str) -> tuple[int, int, int | None, int, int]:
    """Usage, its peak, the limit, swap and its peak."""
    root = mounts.v1.get("memory")
    if root is not None:
        base = f"{root}/{cgroup}/memory."
        memory, peak = _number(f"{base}usage_in_bytes") or 0, _number(f"{base}max_usage_in_bytes") or 0
        limit = _number(f"{base}limit_in_bytes")
        # Absent when the kernel does not account for swap.
        both, both_peak = _number(f"{base}memsw.usage_in_bytes") or 0, _number(f"{base}memsw.max_usage_in_bytes") or 0
        unlimited = limit is None or limit >= _UNLIMITED
        return memory, peak, None if unlimited else limit, max(0, both - memory), max(0, both_peak - peak)
    if mounts.v2 is None:
        return 0, 0, None, 0, 0
    base = f"{mounts.v2}/{cgroup}/memory."
    memory, swap = _number(f"{base}current") or 0, _number(f"{base}swap.current") or 0
    peak, swap_peak = _number(f"{base}peak") or 0, _number(f"{base}swap.peak") or 0
    return memory, peak, _number(f"{base}max"), swap, swap_peak


def _number(path: str) -> int | None:
    """The number in a file; None for `max` and for a file that is not there."""
    data = _read(path)
    return int(data) if data and not data.startswith(b"max") else None


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, _READ_BYTES)
    except OSError as exc:
        # The cgroup was removed between open and read.
        if exc.errno == errno.ENODEV:
            return b""
        raise
    finally:
        os.close(fd)
