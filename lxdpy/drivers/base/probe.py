"""Numbers of running containers and interfaces, read from the kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of an interface. family: inet or inet6; scope: global, link or local."""

    family: str
    address: str
    prefix: int
    scope: str


@dataclass(frozen=True, slots=True)
class InterfaceUsage:
    """One network interface of a container."""

    name: str
    addresses: tuple[InterfaceAddress, ...]
    hwaddr: str
    mtu: int
    up: bool
    kind: str
    """`broadcast`, `loopback` or `point-to-point`."""
    host_name: str
    counters: Mapping[str, int]
    """bytes_received, bytes_sent, packets_received, packets_sent, errors_received, errors_sent,
    packets_dropped_inbound, packets_dropped_outbound."""


@dataclass(frozen=True, slots=True)
class BridgeState:
    """What only bridges have."""

    id: str
    stp: bool
    forward_delay: int
    """In hundredths of a second."""
    vlan_default: int
    vlan_filtering: bool
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostInterface:
    """A network interface of this host."""

    usage: InterfaceUsage
    driver: str
    """The kernel's word: `bridge`, `vlan`, `bond`, `macvlan`, ...; "" for hardware and loopback."""
    bridge: BridgeState | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of a running container at one moment."""

    processes: int
    cpu_ns: int
    memory_bytes: int
    memory_peak_bytes: int
    memory_limit_bytes: int | None
    swap_bytes: int
    swap_peak_bytes: int
    interfaces: tuple[InterfaceUsage, ...] = field(default=())


class Probe(Protocol):
    """Reads the numbers of a running container without forking; fast enough for hundreds."""

    def usage(self, init_pid: int, cgroup: str) -> Usage:
        """Read now. `cgroup` as in StartSpec. Numbers that are gone because the container just ended read as 0."""

    def usages(self, containers: Sequence[tuple[int, str]]) -> tuple[Usage, ...]:
        """Read many, each given as (init_pid, cgroup), in the order given: cheaper than one by one."""
