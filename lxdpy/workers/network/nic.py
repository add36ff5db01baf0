"""NICs of containers that run: put in and taken out."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lxdpy.drivers.base import LinkSpec
from lxdpy.errors import ConflictError, NotFoundError, WorkerError
from lxdpy.linux.netns import open_netns, setns_net
from lxdpy.workers.network.links import find_link, kind


def plug(link: LinkSpec, netns: int) -> None:
    """Make a link in another network namespace, whole or not. Raises ConflictError, NotFoundError, WorkerError."""
    attempt = f'Cannot plug in "{link.name}"'
    try:
        with IPRoute() as route:
            parent = _parent(route, link, attempt)
            try:
                _make(route, link, parent, netns)
            except NetlinkError as exc:
                if exc.code == errno.EEXIST:
                    raise ConflictError(f"{attempt}: there is an interface of that name already") from exc
                raise
            home = open_netns()
            try:
                if link.kind == "veth":
                    _attach_host_end(route, link, parent)
                with _inside(netns, home) as inner:
                    _configure(inner, link)
            except BaseException:
                _undo(link, netns, home)
                raise
            finally:
                os.close(home)
    except (NetlinkError, OSError) as exc:
        raise WorkerError(f"{attempt}: {exc}") from exc


def unplug(link: LinkSpec, netns: int) -> None:
    """Take a link that is no veth out of another network namespace. Raises WorkerError."""
    try:
        home = open_netns()
        try:
            _undo(link, netns, home)
        finally:
            os.close(home)
    except (NetlinkError, OSError) as exc:
        raise WorkerError(f'Cannot unplug "{link.name}": {exc}') from exc


def _parent(route: Any, link: LinkSpec, attempt: str) -> int:
    """Index of the interface that the link hangs on; 0: of none."""
    if not link.parent:
        return 0
    found = find_link(route, link.parent)
    if found is None:
        raise NotFoundError(f'{attempt}: the host has no interface "{link.parent}"')
    return int(found["index"])


def _make(route: Any, link: LinkSpec, parent: int, netns: int) -> None:
    if link.kind == "veth":
        peer: dict[str, object] = {"ifname": link.name, "net_ns_fd": netns, "address": link.hwaddr}
        own: dict[str, object] = {}
        if link.mtu:
            peer["mtu"] = own["mtu"] = link.mtu
        route.link("add", ifname=link.host_name, kind="veth", peer=peer, **own)
    else:
        route.link(
            "add",
            ifname=link.name,
            kind="macvlan",
            macvlan_mode="bridge",
            link=parent,
            net_ns_fd=netns,
            address=link.hwaddr,
        )


def _attach_host_end(route: Any, link: LinkSpec, parent: int) -> None:
    found = find_link(route, link.host_name)
    if found is None:
        raise WorkerError(f'Cannot plug in "{link.name}": the new interface vanished')
    if parent:
        route.link("set", index=found["index"], master=parent)
    route.link("set", index=found["index"], state="up")


def _configure(route: Any, link: LinkSpec) -> None:
    found = find_link(route, link.name)
    if found is None:
        raise WorkerError(f'Cannot plug in "{link.name}": the new interface vanished')
    index = found["index"]
    if link.mtu:
        route.link("set", index=index, mtu=link.mtu)
    route.link("set", index=index, state="up")
    for text in link.addresses:
        address = ipaddress.ip_interface(text)
        more = {"broadcast": str(address.network.broadcast_address)} if address.version == 4 else {}
        route.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **more)
    for text in link.gateways:
        gateway = ipaddress.ip_address(text)
        family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
        route.route("add", family=family, dst="default", gateway=str(gateway), oif=index)


def _undo(link: LinkSpec, netns: int, home: int) -> None:
    """Remove the link, wherever it is."""
    if link.kind == "veth":
        with IPRoute() as route:
            if (found := find_link(route, link.host_name)) is not None:
                route.link("del", index=found["index"])
        return
    with _inside(netns, home) as inner:
        # A container's root may have renamed it.
        for found in inner.get_links():
            if found.get_attr("IFLA_ADDRESS") == link.hwaddr and kind(found) == "macvlan":
                inner.link("del", index=found["index"])


@contextmanager
def _inside(netns: int, home: int) -> Iterator[Any]:
    """A socket that speaks with another network namespace."""
    setns_net(netns)
    try:
        route = IPRoute()
    finally:
        setns_net(home)
    with route:
        yield route
