"""The driver: looks by netlink whether all is in place, and lets a helper process change what is not.

pyroute2 and libnftables would cost the daemon 34 MB for good: `lxdpy.workers.network` loads them, works and ends.
"""

import asyncio
import errno
import ipaddress
import logging
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from lxdpy.drivers.base import BridgeSpec
from lxdpy.drivers.network import rules
from lxdpy.drivers.network.messages import EnsureBridge, RemoveBridge, Request, encode_request, raise_reply
from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.linux.netlink import NetlinkSocket
from lxdpy.linux.nfnetlink import (
    NF_DROP,
    NFPROTO_INET,
    NFPROTO_IPV4,
    chain_policy,
    has_chain,
    netfilter_socket,
    rule_comments,
)
from lxdpy.linux.rtnetlink import IFF_UP, addresses, delete_link, link, route_socket

logger = logging.getLogger(__name__)

HELPER = (sys.executable, "-I", "-m", "lxdpy.workers.network")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")

_BRIDGE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.-]{1,15}")


class HostNetwork:
    """Implements `drivers.base.NetworkHost` for the network namespace that the daemon runs in."""

    def __init__(self, *, helper: Sequence[str] = HELPER, timeout_s: float = 30.0) -> None:
        self._helper = tuple(helper)
        self._timeout_s = timeout_s
        # A thread's lock: cancelling the task that waits does not end the work that runs.
        self._changing = threading.Lock()

    async def ensure_bridge(self, bridge: BridgeSpec) -> None:
        """Make bridge, address, IPv4 forwarding and firewall rules as wanted; cheap when they are already.

        A bridge that somebody else made is used, and gets the address besides its own. Forwarding is never switched off
        again: others may have come to need it. Raises InvalidRequestError, ConflictError (the name is another kind of
        interface's, the network overlaps another interface's), WorkerError.
        """
        _check(bridge)
        await asyncio.to_thread(self._ensure, bridge)

    async def remove_bridge(self, name: str) -> None:
        """Remove the rules, and the bridge if lxdpy made it; a missing one is fine.

        Raises InvalidRequestError, WorkerError.
        """
        _check_name(name)
        await asyncio.to_thread(self._change, RemoveBridge(name), f'Cannot remove bridge "{name}"')

    async def remove_link(self, name: str) -> None:
        """Remove a veth that a dead container left; a missing one is fine. Raises WorkerError."""
        await asyncio.to_thread(_remove_link, name)

    def _ensure(self, bridge: BridgeSpec) -> None:
        if in_place(bridge):
            return
        logger.info("Setting up bridge %s with address %s", bridge.name, bridge.ipv4_address)
        self._change(EnsureBridge(bridge), f'Cannot set up bridge "{bridge.name}"')

    def _change(self, request: Request, attempt: str) -> None:
        with self._changing:
            try:
                done = subprocess.run(
                    self._helper,
                    input=encode_request(request),
                    capture_output=True,
                    timeout=self._timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired as exc:
                raise WorkerError(f"{attempt}: the network helper did not end within {self._timeout_s:g} s") from exc
            except OSError as exc:
                raise WorkerError(f"{attempt}: the network helper did not start: {exc}") from exc
        try:
            raise_reply(done.stdout)
        except (ValueError, KeyError) as exc:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise WorkerError(f"{attempt}: the network helper ended with status {done.returncode}: {said}") from exc


def in_place(bridge: BridgeSpec) -> bool:
    """Whether everything that `ensure_bridge` makes is there."""
    try:
        with route_socket() as route, netfilter_socket() as netfilter:
            return (
                IP_FORWARD.read_bytes().strip() == b"1"
                and _has_address(route, bridge)
                and has_chain(netfilter, NFPROTO_INET, rules.table_name(bridge.name), rules.marker_chain(bridge))
                and _passes_filter(netfilter, bridge.name)
            )
    except OSError as exc:
        # Whatever it is, the helper meets it too and says what it means.
        if exc.errno != errno.ENODEV:
            logger.debug("Cannot look at bridge %s: %s", bridge.name, exc)
        return False


def _has_address(route: NetlinkSocket, bridge: BridgeSpec) -> bool:
    found = link(route, bridge.name)
    wanted = ipaddress.IPv4Interface(bridge.ipv4_address)
    return (
        found.kind == "bridge"
        and bool(found.flags & IFF_UP)
        and any(
            (address.link_index, address.family) == (found.index, socket.AF_INET)
            and (address.address, address.prefix) == (wanted.ip.packed, wanted.network.prefixlen)
            for address in addresses(route)
        )
    )


def _passes_filter(netfilter: NetlinkSocket, bridge: str) -> bool:
    """Whether iptables' chains, where they drop by policy, hold the bridge's accepts."""
    for chains in ((rules.FORWARD_CHAIN, rules.DOCKER_CHAIN), (rules.INPUT_CHAIN,)):
        if chain_policy(netfilter, NFPROTO_IPV4, rules.FILTER_TABLE, chains[0]) == NF_DROP and not any(
            rules.comment(bridge) in rule_comments(netfilter, NFPROTO_IPV4, rules.FILTER_TABLE, chain)
            for chain in chains
        ):
            return False
    return True


def _remove_link(name: str) -> None:
    try:
        with route_socket() as route:
            # Names come from instances' configuration: whatever else is called so is not a container's.
            if link(route, name).kind == "veth":
                delete_link(route, name)
    except OSError as exc:
        if exc.errno != errno.ENODEV:
            raise WorkerError(f'Cannot remove interface "{name}": {exc.strerror}') from exc


def _check(bridge: BridgeSpec) -> None:
    _check_name(bridge.name)
    try:
        ipaddress.IPv4Interface(bridge.ipv4_address)
    except ValueError as exc:
        raise InvalidRequestError(f'Invalid address "{bridge.ipv4_address}" of bridge "{bridge.name}": {exc}') from exc


def _check_name(name: str) -> None:
    if not _BRIDGE_NAME.fullmatch(name):
        raise InvalidRequestError(f'Invalid name of a bridge "{name}": 1 to 15 letters, digits, "_", "." and "-"')
