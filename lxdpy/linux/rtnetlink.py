"""Links and addresses of a network namespace, by NETLINK_ROUTE (rtnetlink(7))."""

import socket
import struct
from dataclasses import dataclass

from lxdpy.linux.netlink import NLM_F_ACK, NLM_F_DUMP, NetlinkSocket, attributes, pack_attribute

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_POINTOPOINT = 0x10

RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254

_RTM_DELLINK = 17
_RTM_GETLINK = 18
_RTM_GETADDR = 22
_RTM_GETNSID = 90

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_STATS64 = 23
_IFLA_EXT_MASK = 29
_IFLA_LINK_NETNSID = 37
_IFLA_INFO_KIND = 1
_RTEXT_FILTER_SKIP_STATS = 1 << 3

_IFA_ADDRESS = 1
_IFA_LOCAL = 2

_NETNSA_NSID = 1
_NETNSA_FD = 3

_LINK_ATTRIBUTES = frozenset(
    {
        _IFLA_ADDRESS,
        _IFLA_IFNAME,
        _IFLA_MTU,
        _IFLA_LINK,
        _IFLA_MASTER,
        _IFLA_LINKINFO,
        _IFLA_IFALIAS,
        _IFLA_STATS64,
        _IFLA_LINK_NETNSID,
    }
)
_ADDRESS_ATTRIBUTES = frozenset({_IFA_ADDRESS, _IFA_LOCAL})

_ifinfomsg = struct.Struct("=BxHiII")
_ifaddrmsg = struct.Struct("=BBBBI")
_int = struct.Struct("=i")
_stats64 = struct.Struct("=8Q")
# The statistics to skip are IPv6's, which the kernel sums up over all CPUs; IFLA_STATS64 comes all the same.
_any_link = _ifinfomsg.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + pack_attribute(
    _IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS)
)
_any_address = _ifaddrmsg.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `peer_*` are of the interface it hangs on (a veth's other end), when there is one."""

    index: int
    name: str
    flags: int
    mtu: int
    hwaddr: bytes
    kind: str
    """Driver (`veth`, `bridge`, ...); "" for hardware and loopback."""
    alias: str
    peer_index: int
    peer_nsid: int | None
    """Namespace of the peer, as numbered in this namespace; None: this one."""
    master_index: int
    """The bridge or bond that it is a port of; 0: none."""
    stats: tuple[int, ...]
    """rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface."""

    link_index: int
    family: int
    address: bytes
    prefix: int
    scope: int


def route_socket() -> NetlinkSocket:
    """A socket that speaks with the calling thread's network namespace."""
    return NetlinkSocket(socket.NETLINK_ROUTE)


def links(route: NetlinkSocket) -> list[Link]:
    """Every interface."""
    return [_link(body) for body in route.request(_RTM_GETLINK, _any_link, flags=NLM_F_DUMP, subject="links")]


def link(route: NetlinkSocket, name: str) -> Link:
    """One interface. Raises OSError (ENODEV)."""
    return _link(route.request(_RTM_GETLINK, _any_link + _name(name), flags=0, subject=name)[0])


def delete_link(route: NetlinkSocket, name: str) -> None:
    """Delete an interface. Raises OSError (ENODEV)."""
    route.request(_RTM_DELLINK, _any_link + _name(name), flags=NLM_F_ACK, subject=name)


def addresses(route: NetlinkSocket) -> list[Address]:
    """Every IPv4 and IPv6 address."""
    return [_address(body) for body in route.request(_RTM_GETADDR, _any_address, flags=NLM_F_DUMP, subject="addresses")]


def nsid(route: NetlinkSocket, netns_fd: int) -> int | None:
    """The number of another namespace in the socket's one; None if it has none there."""
    body = route.request(
        _RTM_GETNSID, bytes(4) + pack_attribute(_NETNSA_FD, _int.pack(netns_fd)), flags=0, subject="nsid"
    )[0]
    value = attributes(body, 4, frozenset({_NETNSA_NSID})).get(_NETNSA_NSID)
    found = -1 if value is None else _int.unpack(value)[0]
    return None if found < 0 else found


def _name(name: str) -> bytes:
    return pack_attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _ifinfomsg.unpack_from(body)
    found = attributes(body, _ifinfomsg.size, _LINK_ATTRIBUTES)
    peer_nsid = found.get(_IFLA_LINK_NETNSID)
    info = attributes(found.get(_IFLA_LINKINFO, b""), 0, frozenset({_IFLA_INFO_KIND}))
    stats = found.get(_IFLA_STATS64)
    return Link(
        index=index,
        name=_text(found.get(_IFLA_IFNAME)),
        flags=flags,
        mtu=_int.unpack(found[_IFLA_MTU])[0] if _IFLA_MTU in found else 0,
        hwaddr=found.get(_IFLA_ADDRESS, b""),
        kind=_text(info.get(_IFLA_INFO_KIND)),
        alias=_text(found.get(_IFLA_IFALIAS)),
        peer_index=_int.unpack(found[_IFLA_LINK])[0] if _IFLA_LINK in found else 0,
        peer_nsid=None if peer_nsid is None else _int.unpack(peer_nsid)[0],
        master_index=_int.unpack(found[_IFLA_MASTER])[0] if _IFLA_MASTER in found else 0,
        stats=(0,) * 8 if stats is None else _stats64.unpack_from(stats),
    )


def _address(body: bytes) -> Address:
    family, prefix, _, scope, index = _ifaddrmsg.unpack_from(body)
    found = attributes(body, _ifaddrmsg.size, _ADDRESS_ATTRIBUTES)
    # On a point-to-point link IFA_ADDRESS is the other side's.
    return Address(index, family, found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b""), prefix, scope)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.rstrip(b"\0").decode(errors="replace")
