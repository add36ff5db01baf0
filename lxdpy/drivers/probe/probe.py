"""The driver: cgroup numbers and interfaces of running containers, put together."""

from collections.abc import Sequence
from pathlib import Path

from lxdpy.drivers.base import InterfaceUsage, Usage
from lxdpy.drivers.probe.cgroups import CgroupUsage, read_cgroup
from lxdpy.drivers.probe.interfaces import InterfaceReader
from lxdpy.errors import WorkerError
from lxdpy.linux.cgroup import cgroup_mounts


class CgroupProbe:
    """Implements `drivers.base.Probe`. Call from threads in the host's network namespace; close when done."""

    def __init__(self, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        try:
            self._mounts = cgroup_mounts(mountinfo)
            self._interfaces = InterfaceReader()
        except OSError as exc:
            raise WorkerError(f"Cannot set up the probe of containers: {exc}") from exc

    def close(self) -> None:
        """End the probe's thread."""
        self._interfaces.close()

    def usage(self, init_pid: int, cgroup: str) -> Usage:
        """Read now. Numbers that are gone because the container just ended read as 0. Raises WorkerError."""
        return self.usages([(init_pid, cgroup)])[0]

    def usages(self, containers: Sequence[tuple[int, str]]) -> tuple[Usage, ...]:
        """Read many, each as (init_pid, cgroup), at a lower price than one by one. Raises WorkerError."""
        try:
            interfaces = self._interfaces.read([pid for pid, _ in containers])
            return tuple(
                _usage(read_cgroup(self._mounts, cgroup), seen)
                for (_, cgroup), seen in zip(containers, interfaces, strict=True)
            )
        except OSError as exc:
            names = ", ".join(cgroup for _, cgroup in containers)
            raise WorkerError(f"Cannot read usage of {names}: {exc}") from exc


def _usage(numbers: CgroupUsage, interfaces: tuple[InterfaceUsage, ...]) -> Usage:
    return Usage(
        processes=numbers.processes,
        cpu_ns=numbers.cpu_ns,
        memory_bytes=numbers.memory_bytes,
        memory_peak_bytes=numbers.memory_peak_bytes,
        memory_limit_bytes=numbers.memory_limit_bytes,
        swap_bytes=numbers.swap_bytes,
        swap_peak_bytes=numbers.swap_peak_bytes,
        interfaces=interfaces,
    )
