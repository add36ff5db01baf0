"""Network interfaces as the kernel lists them, turned into the types of drivers.base."""

import errno
import socket
from collections.abc import Iterable

from lxdpy.drivers.base import InterfaceAddress, InterfaceUsage
from lxdpy.linux.rtnetlink import (
    IFF_LOOPBACK,
    IFF_POINTOPOINT,
    IFF_UP,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    Address,
    Link,
)

_FAMILIES: dict[int, str] = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}
_SCOPES = {RT_SCOPE_LINK: "link", RT_SCOPE_HOST: "local"}
_COUNTERS = (
    "packets_received",
    "packets_sent",
    "bytes_received",
    "bytes_sent",
    "errors_received",
    "errors_sent",
    "packets_dropped_inbound",
    "packets_dropped_outbound",
)


def usages(links: Iterable[Link], found: Iterable[Address], host_nsid: int | None) -> tuple[InterfaceUsage, ...]:
    """One for each link; `host_nsid` is the number that the links' namespace has for the host's, where veths end."""
    by_link: dict[int, list[InterfaceAddress]] = {}
    for address in found:
        if address.family in _FAMILIES:
            by_link.setdefault(address.link_index, []).append(_address(address))
    return tuple(_interface(link, tuple(by_link.get(link.index, ())), host_nsid) for link in links)


def _interface(link: Link, found: tuple[InterfaceAddress, ...], host_nsid: int | None) -> InterfaceUsage:
    loopback = bool(link.flags & IFF_LOOPBACK)
    point_to_point = bool(link.flags & IFF_POINTOPOINT)
    return InterfaceUsage(
        name=link.name,
        addresses=found,
        hwaddr="" if loopback else link.hwaddr.hex(":"),
        mtu=link.mtu,
        up=bool(link.flags & IFF_UP),
        kind="loopback" if loopback else "point-to-point" if point_to_point else "broadcast",
        host_name=_host_name(link, host_nsid),
        counters=dict(zip(_COUNTERS, link.stats, strict=True)),
    )


def _host_name(link: Link, host_nsid: int | None) -> str:
    """Name of a veth's other end; "" when that is not on the host, or is gone."""
    if link.kind != "veth" or link.peer_nsid is None or link.peer_nsid != host_nsid:
        return ""
    try:
        return socket.if_indextoname(link.peer_index)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return ""
        raise


def _address(address: Address) -> InterfaceAddress:
    return InterfaceAddress(
        family=_FAMILIES[address.family],
        address=socket.inet_ntop(address.family, address.address),
        prefix=address.prefix,
        scope=_SCOPES.get(address.scope, "global"),
    )
