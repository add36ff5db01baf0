"""The driver: looks by netlink whether all is in place, and lets a helper process change what is not.

pyroute2 and libnftables would cost the daemon 34 MB for good: `lxdpy.workers.network` loads them, works and ends.
"""

import asyncio
import errno
import ipaddress
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from lxdpy.drivers.base import BridgeSpec, BridgeState, HostInterface, LinkSpec
from lxdpy.drivers.interfaces import usages
from lxdpy.drivers.network import rules
from lxdpy.drivers.network.messages import (
    EnsureBridge,
    Plug,
    RemoveBridge,
    Request,
    Unplug,
    encode_request,
    raise_reply,
)
from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.linux.netlink import NetlinkSocket
from lxdpy.linux.netns import open_netns
from lxdpy.linux.nfnetlink import (
    NF_DROP,
    NFPROTO_INET,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    chain_policy,
    has_chain,
    netfilter_socket,
    rule_comments,
)
from lxdpy.linux.rtnetlink import IFF_UP, Address, Link, addresses, delete_link, link, links, route_socket

logger = logging.getLogger(__name__)

HELPER = (sys.executable, "-I", "-m", "lxdpy.workers.network")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
IP6_FORWARD = Path("/proc/sys/net/ipv6/conf/all/forwarding")

# Tells the bridges that we made, and may remove, from those that an administrator lent us.
ALIAS = "lxdpy"
DEFAULT_MTU = 1500

_PROTOCOLS = {"ip": NFPROTO_IPV4, "ip6": NFPROTO_IPV6}

_BRIDGE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.-]{1,15}")


class HostNetwork:
    """Implements `drivers.base.NetworkHost` for the network namespace that the daemon runs in."""

    def __init__(self, *, helper: Sequence[str] = HELPER, timeout_s: float = 30.0) -> None:
        self._helper = tuple(helper)
        self._timeout_s = timeout_s
        # A thread's lock: cancelling the task that waits does not end the work that runs.
        self._changing = threading.Lock()

    async def ensure_bridge(self, bridge: BridgeSpec) -> None:
        """Make bridge, addresses, forwarding and firewall rules as wanted; cheap when they are already.

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

    def interfaces(self) -> list[HostInterface]:
        """Every interface of the host. Raises WorkerError."""
        try:
            with route_socket() as route:
                found, known = links(route), addresses(route)
            return [
                HostInterface(usage, each.kind, _bridge_state(each, found) if each.kind == "bridge" else None)
                for each, usage in zip(found, usages(found, known, None), strict=True)
            ]
        except OSError as exc:
            raise WorkerError(f"Cannot list the host's interfaces: {exc}") from exc

    async def plug(self, link: LinkSpec, init_pid: int) -> None:
        """Put a NIC into a container. Raises ConflictError, NotFoundError, WorkerError."""
        await asyncio.to_thread(self._visit, Plug, link, init_pid, f'Cannot plug in "{link.name}"')

    async def unplug(self, link: LinkSpec, init_pid: int) -> None:
        """Take a NIC out of a container. Raises WorkerError."""
        if link.kind == "veth":
            await self.remove_link(link.host_name)
        else:
            await asyncio.to_thread(self._visit, Unplug, link, init_pid, f'Cannot unplug "{link.name}"')

    def _visit(self, kind: type[Plug] | type[Unplug], link: LinkSpec, init_pid: int, attempt: str) -> None:
        try:
            netns = open_netns(init_pid)
        except OSError as exc:
            raise WorkerError(f"{attempt}: the container has ended: {exc}") from exc
        try:
            self._change(kind(link, netns), attempt, (netns,))
        finally:
            os.close(netns)

    def _ensure(self, bridge: BridgeSpec) -> None:
        if in_place(bridge):
            return
        logger.info("Setting up bridge %s with address %s", bridge.name, bridge.ipv4_address or bridge.ipv6_address)
        self._change(EnsureBridge(bridge), f'Cannot set up bridge "{bridge.name}"')

    def _change(self, request: Request, attempt: str, fds: tuple[int, ...] = ()) -> None:
        with self._changing:
            try:
                done = subprocess.run(
                    self._helper,
                    input=encode_request(request),
                    capture_output=True,
                    timeout=self._timeout_s,
                    check=False,
                    pass_fds=fds,
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
                _forwards(bridge)
                and _has_link(route, bridge)
                and has_chain(netfilter, NFPROTO_INET, rules.table_name(bridge.name), rules.marker_chain(bridge))
                and all(_passes_filter(netfilter, bridge.name, family) for family in rules.families(bridge))
            )
    except OSError as exc:
        # Whatever it is, the helper meets it too and says what it means.
        if exc.errno != errno.ENODEV:
            logger.debug("Cannot look at bridge %s: %s", bridge.name, exc)
        return False


def _forwards(bridge: BridgeSpec) -> bool:
    return all(
        not address or path.read_bytes().strip() == b"1"
        for address, path in ((bridge.ipv4_address, IP_FORWARD), (bridge.ipv6_address, IP6_FORWARD))
    )


def _has_link(route: NetlinkSocket, bridge: BridgeSpec) -> bool:
    found = link(route, bridge.name)
    mtu = bridge.mtu or (DEFAULT_MTU if found.alias == ALIAS else found.mtu)
    if (
        found.kind != "bridge"
        or not found.flags & IFF_UP
        or found.mtu != mtu
        or (bridge.hwaddr and found.hwaddr.hex(":") != bridge.hwaddr.lower())
    ):
        return False
    present = [address for address in addresses(route) if address.link_index == found.index]
    return all(_has_address(present, address) for address in (bridge.ipv4_address, bridge.ipv6_address) if address)


def _has_address(present: list[Address], address: str) -> bool:
    wanted = ipaddress.ip_interface(address)
    return any((found.address, found.prefix) == (wanted.ip.packed, wanted.network.prefixlen) for found in present)


def _passes_filter(netfilter: NetlinkSocket, bridge: str, family: str) -> bool:
    """Whether iptables' chains, where they drop by policy, hold the bridge's accepts."""
    protocol = _PROTOCOLS[family]
    for chains in ((rules.FORWARD_CHAIN, rules.DOCKER_CHAIN), (rules.INPUT_CHAIN,)):
        if chain_policy(netfilter, protocol, rules.FILTER_TABLE, chains[0]) == NF_DROP and not any(
            rules.comment(bridge) in rule_comments(netfilter, protocol, rules.FILTER_TABLE, chain) for chain in chains
        ):
            return False
    return True


def _bridge_state(bridge: Link, every: list[Link]) -> BridgeState:
    directory = Path("/sys/class/net") / bridge.name / "bridge"
    return BridgeState(
        id=_word(directory / "bridge_id"),
        stp=_word(directory / "stp_state") != "0",
        forward_delay=int(_word(directory / "forward_delay")),
        vlan_default=int(_word(directory / "default_pvid")),
        vlan_filtering=_word(directory / "vlan_filtering") != "0",
        ports=tuple(sorted(each.name for each in every if each.master_index == bridge.index)),
    )


def _word(path: Path) -> str:
    """A file's word; "0" where there is no such file: a kernel without VLANs, a bridge that is gone."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return "0"


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
    for address, kind in (
        (bridge.ipv4_address, ipaddress.IPv4Interface),
        (bridge.ipv6_address, ipaddress.IPv6Interface),
    ):
        try:
            if address:
                kind(address)
        except ValueError as exc:
            raise InvalidRequestError(f'Invalid address "{address}" of bridge "{bridge.name}": {exc}') from exc


def _check_name(name: str) -> None:
    if not _BRIDGE_NAME.fullmatch(name):
        raise InvalidRequestError(f'Invalid name of a bridge "{name}": 1 to 15 letters, digits, "_", "." and "-"')
