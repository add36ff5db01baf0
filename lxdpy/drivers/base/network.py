"""Networks: bridges, firewall rules, interfaces of containers; DHCP and DNS."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from lxdpy.drivers.base.probe import HostInterface


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A managed bridge: addresses are the gateway's, with prefix (`10.76.0.1/16`); "" is none."""

    name: str
    ipv4_address: str = ""
    ipv4_nat: bool = True
    ipv6_address: str = ""
    ipv6_nat: bool = False
    mtu: int = 0
    """0: the kernel's default."""
    hwaddr: str = ""
    """"": a random one when it is made, which it keeps."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A NIC to put into a container that runs."""

    kind: str
    """`veth` or `macvlan`."""
    host_name: str
    """Of a veth's host end."""
    parent: str
    """Bridge of a veth, "" for none; interface below a macvlan."""
    name: str
    hwaddr: str
    mtu: int
    addresses: tuple[str, ...]
    """With prefix."""
    gateways: tuple[str, ...]
    """Of default routes to add."""


class NetworkHost(Protocol):
    """Bridges, firewall rules and interfaces of this host."""

    async def ensure_bridge(self, bridge: BridgeSpec) -> None:
        """Make bridge, addresses, forwarding and NAT rules as wanted; idempotent. Raises ConflictError, WorkerError."""

    async def remove_bridge(self, name: str) -> None:
        """Remove bridge and rules; a missing one is fine."""

    async def remove_link(self, name: str) -> None:
        """Remove an interface that a dead container left; a missing one is fine."""

    def interfaces(self) -> list[HostInterface]:
        """The host's interfaces. Raises WorkerError."""

    async def plug(self, link: LinkSpec, init_pid: int) -> None:
        """Put a NIC into the network namespace of a container's init, up and with its addresses.

        Raises ConflictError (a name is taken), NotFoundError (no such parent), WorkerError; nothing is left then.
        """

    async def unplug(self, link: LinkSpec, init_pid: int) -> None:
        """Take it out again; one that is not there is fine. Raises WorkerError."""


@dataclass(frozen=True, slots=True)
class ServedNetwork:
    """What clients on one bridge are served: addresses by DHCP, names by DNS."""

    bridge: BridgeSpec
    ipv4_dhcp: bool
    ipv4_expiry: str
    """dnsmasq's spelling: `1h`."""
    ipv6_dhcp: bool
    dns: str
    """`managed`: hosts' names are ours to say; `dynamic`: theirs; `none`: there are no names."""
    domain: str
    search: str
    """Domains, separated by commas, that DHCP tells clients to search; "" for `domain`."""


@dataclass(frozen=True, slots=True)
class ServedHost:
    """A NIC that is given an address and has a name."""

    hwaddr: str
    address: str
    name: str
    """Below the network's domain; it may have dots."""


class LeaseServer(Protocol):
    """DHCP and DNS on managed bridges. Goes on while no daemon runs; the next one takes it over."""

    async def serve(self, network: ServedNetwork, hosts: Callable[[], Iterable[ServedHost]]) -> None:
        """Have one network served as wanted, its bridge being there; cheap when it is already.

        `hosts` gives all that are served. What dies is started again until `stop`. Raises WorkerError.
        """

    async def add(self, network: str, host: ServedHost) -> None:
        """Serve one more host, if the network is served. Raises WorkerError."""

    async def remove(self, network: str, host: ServedHost) -> None:
        """Serve a host no more, and free its address."""

    async def stop(self, network: str) -> None:
        """Serve a network no more; one that is not served is fine."""

    async def sweep(self, known: Iterable[str]) -> None:
        """Stop what an earlier daemon left of networks that are none of `known`."""

    async def close(self) -> None:
        """Look no more after what runs; it goes on."""
