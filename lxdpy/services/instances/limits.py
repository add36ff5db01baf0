"""How much of the host an instance may use, by its configuration:

limits.cpu              3: so many CPUs, which the daemon chooses; 0-2,5: these
limits.cpu.allowance    50%: that share when CPUs are scarce; 25ms/100ms: at most so much
limits.memory           512MiB, 1GB, or 10% of the host's
limits.memory.enforce   hard, or soft: only when the host's memory is scarce
limits.memory.swap      false: memory of the instance is not swapped out
limits.processes        so many processes and threads
"""

import os
import re
from collections.abc import Callable, Mapping

from lxdpy.drivers.base import Limits
from lxdpy.errors import InvalidRequestError
from lxdpy.services.units import parse_size

_CPUS = re.compile(r"\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*\Z", re.ASCII)
_PERCENT = re.compile(r"(\d{1,3})%\Z", re.ASCII)
_QUOTA = re.compile(r"(\d{1,6})ms/(\d{1,6})ms\Z", re.ASCII)
# sched-bwc: the kernel takes periods of 1 ms to 1 s, and quotas from 1 ms.
_MAX_PERIOD_MS = 1000
_SMALLEST_MEMORY = 1 << 20


def limits(config: Mapping[str, str]) -> Limits:
    """The limits of an expanded configuration that `CHECKS` has accepted."""
    count, cpus = _cpu(config.get("limits.cpu") or "")
    share, quota = _allowance(config.get("limits.cpu.allowance") or "")
    processes = config.get("limits.processes")
    return Limits(
        cpu_count=count,
        cpus=cpus,
        cpu_percent=share,
        cpu_quota_ms=quota,
        memory_bytes=_memory(config.get("limits.memory") or ""),
        memory_soft=config.get("limits.memory.enforce") == "soft",
        swap=(config.get("limits.memory.swap") or "true") == "true",
        processes=int(processes) if processes else None,
    )


def _cpu(value: str) -> tuple[int | None, tuple[int, ...]]:
    """How many CPUs, or which."""
    if not value:
        return None, ()
    if value.isascii() and value.isdigit():
        if not 1 <= int(value) <= 65535:
            raise InvalidRequestError("it must be at least one CPU")
        return int(value), ()
    if not _CPUS.match(value):
        raise InvalidRequestError("expected a number of CPUs, or a set such as 0-2,5")
    found: set[int] = set()
    for part in value.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise InvalidRequestError(f"{part} is no range")
        found.update(range(int(first), int(last or first) + 1))
    return None, tuple(sorted(found))


def _allowance(value: str) -> tuple[int | None, tuple[int, int] | None]:
    """A share in percent, or milliseconds in a period of milliseconds."""
    if not value:
        return None, None
    if (match := _PERCENT.match(value)) and 1 <= int(match[1]) <= 100:
        return int(match[1]), None
    if (match := _QUOTA.match(value)) and int(match[1]) >= 1 and 1 <= int(match[2]) <= _MAX_PERIOD_MS:
        return None, (int(match[1]), int(match[2]))
    raise InvalidRequestError("expected 1% to 100%, or a time in a period of at most 1 s, such as 25ms/100ms")


def _memory(value: str) -> int | None:
    if not value:
        return None
    if match := _PERCENT.match(value):
        if not 1 <= int(match[1]) <= 100:
            raise InvalidRequestError("expected 1% to 100%")
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * int(match[1]) // 100
    size = parse_size(value)
    if size < _SMALLEST_MEMORY:
        raise InvalidRequestError(f"it must be at least {_SMALLEST_MEMORY} bytes")
    return size


def _one_of(*words: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in words:
            raise InvalidRequestError(f"expected {' or '.join(words)}")

    return check


def _processes(value: str) -> None:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 4194304):
        raise InvalidRequestError("expected a number from 1 to 4194304")


CHECKS: Mapping[str, Callable[[str], object]] = {
    "limits.cpu": _cpu,
    "limits.cpu.allowance": _allowance,
    "limits.memory": _memory,
    "limits.memory.enforce": _one_of("hard", "soft"),
    "limits.memory.swap": _one_of("true", "false"),
    "limits.processes": _processes,
}
"""Raise InvalidRequestError for a value that can't be."""
