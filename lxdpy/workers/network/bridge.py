"""A managed bridge: link, addresses, forwarding, firewall rules."""

import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lxdpy.drivers.base import BridgeSpec
from lxdpy.drivers.network import rules
from lxdpy.drivers.network.host import ALIAS, DEFAULT_MTU, IP6_FORWARD, IP_FORWARD
from lxdpy.errors import ConflictError, WorkerError
from lxdpy.workers.network.firewall import Firewall
from lxdpy.workers.network.links import find_link, kind

_IFF_UP = 0x1
_IFA_F_NODAD = 0x2
_IP6_CONF = Path("/proc/sys/net/ipv6/conf")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def ensure(bridge: BridgeSpec) -> None:
    """Make bridge, addresses, forwarding and rules as wanted. Raises ConflictError, WorkerError."""
    attempt = f'Cannot set up bridge "{bridge.name}"'
    try:
        with IPRoute() as route:
            _ensure_link(route, bridge, attempt)
        if bridge.ipv4_address:
            _write(IP_FORWARD, "1")
        if bridge.ipv6_address:
            _forward_ipv6()
    except (NetlinkError, OSError) as exc:
        raise WorkerError(f"{attempt}: {exc}") from exc
    firewall = Firewall(attempt)
    firewall.apply(
        [
            *rules.own_table(bridge),
            *rules.remove_accepts(bridge.name, firewall.filter_rules),
            *firewall.accepts(bridge),
        ]
    )


def remove(name: str) -> None:
    """Remove rules, then the bridge, unless it is not ours. Raises WorkerError."""
    attempt = f'Cannot remove bridge "{name}"'
    firewall = Firewall(attempt)
    firewall.apply([*rules.remove_own_table(name), *rules.remove_accepts(name, firewall.filter_rules)])
    try:
        with IPRoute() as route:
            link = find_link(route, name)
            if link is not None and _is_ours(link):
                route.link("del", index=link["index"])
    except NetlinkError as exc:
        raise WorkerError(f"{attempt}: {exc}") from exc


def _ensure_link(route: Any, bridge: BridgeSpec, attempt: str) -> None:
    wanted = [ipaddress.ip_interface(text) for text in (bridge.ipv4_address, bridge.ipv6_address) if text]
    link = find_link(route, bridge.name)
    if link is not None and (found := kind(link)) != "bridge":
        raise ConflictError(f"{attempt}: an interface of that name exists and is no bridge but {found}")
    present = [] if link is None else [found for index, found in _addresses(route) if index == link["index"]]
    missing = [address for address in wanted if address not in present]
    for address in missing:
        _check_overlap(route, bridge.name, address, attempt)
    if link is None:
        # With an address of its own the bridge does not take on a port's whenever one comes or goes, which would
        # leave the containers with stale ARP entries.
        hwaddr = bridge.hwaddr or _random_hwaddr()
        route.link("add", ifname=bridge.name, kind="bridge", address=hwaddr, br_forward_delay=0)
        link = find_link(route, bridge.name)
        if link is None:
            raise WorkerError(f"{attempt}: the new interface vanished")
        route.link("set", index=link["index"], ifalias=ALIAS)
    elif _is_ours(link):
        for stale in set(present) - set(wanted):
            if not stale.ip.is_link_local:
                route.addr("del", index=link["index"], address=str(stale.ip), prefixlen=stale.network.prefixlen)
    _ensure_numbers(route, link, bridge)
    for address in missing:
        _add_address(route, bridge.name, link["index"], address)
    if not link["flags"] & _IFF_UP:
        route.link("set", index=link["index"], state="up")


def _ensure_numbers(route: Any, link: Any, bridge: BridgeSpec) -> None:
    mtu = bridge.mtu or (DEFAULT_MTU if _is_ours(link) else 0)
    if mtu and link.get_attr("IFLA_MTU") != mtu:
        route.link("set", index=link["index"], mtu=mtu)
    if bridge.hwaddr and link.get_attr("IFLA_ADDRESS") != bridge.hwaddr.lower():
        route.link("set", index=link["index"], address=bridge.hwaddr)


def _add_address(route: Any, name: str, index: int, address: Interface) -> None:
    if isinstance(address, ipaddress.IPv4Interface):
        route.addr(
            "add",
            index=index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            broadcast=str(address.network.broadcast_address),
        )
        return
    for key, value in (("accept_ra", "0"), ("autoconf", "0"), ("disable_ipv6", "0")):
        _write(_IP6_CONF / name / key, value)
    # Without a port the bridge has no carrier, and would look for duplicates until it gets one.
    route.addr(
        "add",
        index=index,
        address=str(address.ip),
        prefixlen=address.network.prefixlen,
        family=socket.AF_INET6,
        flags=_IFA_F_NODAD,
    )


def _forward_ipv6() -> None:
    """Forward IPv6, and keep the host's own interfaces listening to their routers, which forwarding would end."""
    if IP6_FORWARD.read_bytes().strip() == b"1":
        return
    for directory in _IP6_CONF.iterdir():
        try:
            if directory.name != "all" and (directory / "accept_ra").read_bytes().strip() == b"1":
                (directory / "accept_ra").write_text("2\n")
        except FileNotFoundError:
            # An interface that has just gone.
            continue
    _write(IP6_FORWARD, "1")


def _write(path: Path, value: str) -> None:
    if path.read_text().strip() != value:
        path.write_text(f"{value}\n")


def _check_overlap(route: Any, name: str, wanted: Interface, attempt: str) -> None:
    names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in route.get_links()}
    for index, found in _addresses(route):
        if (
            names.get(index) != name
            and found.version == wanted.version
            and not found.ip.is_link_local
            and found.network.overlaps(wanted.network)
        ):
            owner = names.get(index, index)
            raise ConflictError(
                f"{attempt}: its network {wanted.network} overlaps {found.network} of interface {owner}"
            )


def _addresses(route: Any) -> list[tuple[int, Interface]]:
    return [
        (
            address["index"],
            # On a point-to-point link IFA_ADDRESS is the other side's; IPv6 has IFA_LOCAL only there.
            ipaddress.ip_interface(
                f"{address.get_attr('IFA_LOCAL') or address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
            ),
        )
        for family in (socket.AF_INET, socket.AF_INET6)
        for address in _dump(route, family)
    ]


def _dump(route: Any, family: int) -> list[Any]:
    try:
        return list(route.get_addr(family=family))
    except NetlinkError as exc:
        # A kernel without IPv6.
        if family == socket.AF_INET6 and exc.code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return []
        raise


def _is_ours(link: Any) -> bool:
    return bool(link.get_attr("IFLA_IFALIAS") == ALIAS)


def _random_hwaddr() -> str:
    return (b"\x00\x16\x3e" + os.urandom(3)).hex(":")
