"""Interfaces of other network namespaces, asked from one thread that goes there and comes back.

setns(2) moves one thread: the daemon's others stay where they are. The thread keeps nothing open between calls, since a
socket would keep the namespace of a container alive that has ended.
"""

import errno
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lxdpy.drivers.base import InterfaceAddress, InterfaceUsage
from lxdpy.linux.netns import open_netns, setns_net
from lxdpy.linux.rtnetlink import (
    IFF_LOOPBACK,
    IFF_POINTOPOINT,
    IFF_UP,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    Address,
    Link,
    addresses,
    links,
    nsid,
    route_socket,
)

_GONE = (errno.ENOENT, errno.ESRCH)
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


@dataclass(frozen=True, slots=True)
class _Sight:
    """What there was in one namespace, and that namespace's number of the host's."""

    links: list[Link]
    addresses: list[Address]
    host_nsid: int | None


_NOTHING = _Sight([], [], None)


class InterfaceReader:
    """Reads the interfaces that processes see. The host's namespace is that of the thread which makes the reader."""

    def __init__(self) -> None:
        self._host = open_netns()
        self._traveller = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns")

    def close(self) -> None:
        """End the thread."""
        self._traveller.shutdown()
        os.close(self._host)

    def read(self, pids: Sequence[int]) -> list[tuple[InterfaceUsage, ...]]:
        """The interfaces that each process sees; none for one that has ended. Raises OSError."""
        return [_usage(sight) for sight in self._traveller.submit(self._tour, pids).result()]

    def _tour(self, pids: Sequence[int]) -> list[_Sight]:
        try:
            return [self._visit(pid) for pid in pids]
        finally:
            setns_net(self._host)

    def _visit(self, pid: int) -> _Sight:
        try:
            netns = open_netns(pid)
        except OSError as exc:
            if exc.errno in _GONE:
                return _NOTHING
            raise
        try:
            setns_net(netns)
        finally:
            os.close(netns)
        with route_socket() as route:
            found = links(route)
            has_veth = any(link.kind == "veth" and link.peer_nsid is not None for link in found)
            return _Sight(found, addresses(route), nsid(route, self._host) if has_veth else None)


def _usage(sight: _Sight) -> tuple[InterfaceUsage, ...]:
    by_link: dict[int, list[InterfaceAddress]] = {}
    for address in sight.addresses:
        if address.family in _FAMILIES:
            by_link.setdefault(address.link_index, []).append(_address(address))
    return tuple(_interface(link, tuple(by_link.get(link.index, ())), sight.host_nsid) for link in sight.links)


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
