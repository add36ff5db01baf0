"""Interfaces of other network namespaces, asked from one thread that goes there and comes back.

setns(2) moves one thread: the daemon's others stay where they are. The thread keeps nothing open between calls, since a
socket would keep the namespace of a container alive that has ended.
"""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lxdpy.drivers.base import InterfaceUsage
from lxdpy.drivers.interfaces import usages
from lxdpy.linux.netns import open_netns, setns_net
from lxdpy.linux.rtnetlink import Address, Link, addresses, links, nsid, route_socket

_GONE = (errno.ENOENT, errno.ESRCH)


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
        return [
            usages(sight.links, sight.addresses, sight.host_nsid)
            for sight in self._traveller.submit(self._tour, pids).result()
        ]

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
