import os
import socket
import struct

import pytest

from lxdpy.linux.netlink import NetlinkSocket, attributes, pack_attribute
from lxdpy.linux.netns import open_netns, setns_net
from lxdpy.linux.rtnetlink import IFF_LOOPBACK, RT_SCOPE_HOST, addresses, delete_link, link, links, nsid, route_socket


def test_attributes_survive_a_round_trip() -> None:
    data = b"head" + pack_attribute(3, b"eth0\0") + pack_attribute(4, struct.pack("=I", 1500)) + pack_attribute(9, b"")
    assert attributes(data, 4, frozenset({3, 4, 9})) == {3: b"eth0\0", 4: struct.pack("=I", 1500), 9: b""}
    assert attributes(data, 4, frozenset({4, 5})) == {4: struct.pack("=I", 1500)}


def test_flags_are_no_part_of_the_type() -> None:
    assert attributes(pack_attribute(0x8000 | 18, b"nest"), 0, frozenset({18})) == {18: b"nest"}


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\0", b"\3\0\1\0rest"])
def test_what_is_no_attribute_ends_the_list(data: bytes) -> None:
    assert attributes(data, 0, frozenset({0, 1})) == {}


def test_links_and_addresses_of_this_host() -> None:
    with route_socket() as route:
        found = {entry.name: entry for entry in links(route)}
        assert set(found) == {name for _, name in socket.if_nameindex()}
        loopback = link(route, "lo")
        assert loopback.flags & IFF_LOOPBACK
        assert (loopback.index, loopback.kind, loopback.peer_nsid) == (socket.if_nametoindex("lo"), "", None)
        mine = [(a.address, a.prefix, a.scope) for a in addresses(route) if a.link_index == loopback.index]
    assert (socket.inet_aton("127.0.0.1"), 8, RT_SCOPE_HOST) in mine


def test_a_missing_link_is_enodev_and_named() -> None:
    with route_socket() as route:
        with pytest.raises(OSError) as failure:
            link(route, "lxdpyt-none")
        # The socket is good for more.
        assert link(route, "lo").name == "lo"
    assert failure.value.errno == 19
    assert failure.value.filename == "lxdpyt-none"


def test_deleting_loopback_is_refused() -> None:
    with route_socket() as route, pytest.raises(OSError) as failure:
        delete_link(route, "lo")
    assert failure.value.errno in (1, 95)


def test_a_closed_socket_is_closed() -> None:
    with NetlinkSocket(socket.NETLINK_ROUTE) as route:
        pass
    with pytest.raises(OSError):
        links(route)


def test_own_namespace_has_no_number_of_its_own() -> None:
    fd = open_netns()
    try:
        with route_socket() as route:
            number = nsid(route, fd)
    finally:
        os.close(fd)
    assert number is None or number >= 0


def test_setns_wants_a_namespace() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(OSError) as failure:
        setns_net(file.fileno())
    assert failure.value.errno == 22
