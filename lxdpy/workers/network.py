"""The network helper: makes or removes one bridge with its firewall rules, then ends.

Started by drivers.network as `python -I -m lxdpy.workers.network`; messages: drivers/network/messages.py.
"""

import errno
import ipaddress
import os
import socket
import sys
from typing import Any

import nftables
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lxdpy.drivers.base import BridgeSpec
from lxdpy.drivers.network import rules
from lxdpy.drivers.network.host import IP_FORWARD
from lxdpy.drivers.network.messages import EnsureBridge, decode_request, encode_reply
from lxdpy.errors import ConflictError, LxdpyError, WorkerError

# Tells the bridges that we made, and may remove, from those that an administrator lent us.
_ALIAS = "lxdpy"
_IFF_UP = 0x1


def main() -> None:
    """Serve the one request on stdin."""
    request = decode_request(sys.stdin.buffer.read())
    error: LxdpyError | None = None
    try:
        if isinstance(request, EnsureBridge):
            ensure_bridge(request.bridge)
        else:
            remove_bridge(request.name)
    except LxdpyError as exc:
        error = exc
    sys.stdout.buffer.write(encode_reply(error))


def ensure_bridge(bridge: BridgeSpec) -> None:
    """Make bridge, address, forwarding and rules as wanted. Raises ConflictError, WorkerError."""
    attempt = f'Cannot set up bridge "{bridge.name}"'
    try:
        with IPRoute() as route:
            _ensure_link(route, bridge, attempt)
        if IP_FORWARD.read_bytes().strip() != b"1":
            IP_FORWARD.write_bytes(b"1\n")
    except (NetlinkError, OSError) as exc:
        raise WorkerError(f"{attempt}: {exc}") from exc
    firewall = Firewall(attempt)
    firewall.apply(
        [
            *rules.own_table(bridge),
            *rules.remove_accepts(bridge.name, firewall.filter_rules),
            *_accepts(firewall, bridge.name),
        ]
    )


def remove_bridge(name: str) -> None:
    """Remove rules, then the bridge, unless it is not ours. Raises WorkerError."""
    attempt = f'Cannot remove bridge "{name}"'
    firewall = Firewall(attempt)
    firewall.apply([*rules.remove_own_table(name), *rules.remove_accepts(name, firewall.filter_rules)])
    try:
        with IPRoute() as route:
            link = _find_link(route, name)
            if link is not None and _is_ours(link):
                route.link("del", index=link["index"])
    except NetlinkError as exc:
        raise WorkerError(f"{attempt}: {exc}") from exc


# -------------------------------------------------------------------- links


def _ensure_link(route: Any, bridge: BridgeSpec, attempt: str) -> None:
    wanted = ipaddress.IPv4Interface(bridge.ipv4_address)
    link = _find_link(route, bridge.name)
    if link is not None and (kind := _kind(link)) != "bridge":
        raise ConflictError(f"{attempt}: an interface of that name exists and is no bridge but {kind}")
    present = [] if link is None else [found for index, found in _addresses(route) if index == link["index"]]
    if wanted not in present:
        _check_overlap(route, bridge.name, wanted, attempt)
    if link is None:
        # With an address of its own the bridge does not take on a port's whenever one comes or goes, which would
        # leave the containers with stale ARP entries.
        route.link("add", ifname=bridge.name, kind="bridge", address=_random_hwaddr(), br_forward_delay=0)
        link = _find_link(route, bridge.name)
        if link is None:
            raise WorkerError(f"{attempt}: the new interface vanished")
        route.link("set", index=link["index"], ifalias=_ALIAS)
    elif _is_ours(link):
        for stale in set(present) - {wanted}:
            route.addr("del", index=link["index"], address=str(stale.ip), prefixlen=stale.network.prefixlen)
    if wanted not in present:
        route.addr(
            "add",
            index=link["index"],
            address=str(wanted.ip),
            prefixlen=wanted.network.prefixlen,
            broadcast=str(wanted.network.broadcast_address),
        )
    if not link["flags"] & _IFF_UP:
        route.link("set", index=link["index"], state="up")


def _check_overlap(route: Any, name: str, wanted: ipaddress.IPv4Interface, attempt: str) -> None:
    names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in route.get_links()}
    for index, found in _addresses(route):
        if names.get(index) != name and found.network.overlaps(wanted.network):
            owner = names.get(index, index)
            raise ConflictError(
                f"{attempt}: its network {wanted.network} overlaps {found.network} of interface {owner}"
            )


def _addresses(route: Any) -> list[tuple[int, ipaddress.IPv4Interface]]:
    return [
        (address["index"], ipaddress.IPv4Interface(f"{address.get_attr('IFA_LOCAL')}/{address['prefixlen']}"))
        for address in route.get_addr(family=socket.AF_INET)
    ]


def _find_link(route: Any, name: str) -> Any | None:
    try:
        return next(iter(route.link("get", ifname=name)))
    except NetlinkError as exc:
        if exc.code == errno.ENODEV:
            return None
        raise


def _kind(link: Any) -> str:
    info = link.get_attr("IFLA_LINKINFO")
    return (info and info.get_attr("IFLA_INFO_KIND")) or "hardware"


def _is_ours(link: Any) -> bool:
    return bool(link.get_attr("IFLA_IFALIAS") == _ALIAS)


def _random_hwaddr() -> str:
    return (b"\x00\x16\x3e" + os.urandom(3)).hex(":")


# ----------------------------------------------------------------- firewall


class Firewall:
    """nftables of this network namespace: what is there, and transactions on it."""

    def __init__(self, attempt: str) -> None:
        self._attempt = attempt
        self._nft = nftables.Nftables()
        self._nft.set_handle_output(True)
        self.filter_chains: dict[str, dict[str, Any]] = {}
        """Of table `ip filter`, by name."""
        self.filter_rules: list[dict[str, Any]] = []
        """Of table `ip filter`, in order."""
        filter_table = {"family": "ip", "name": rules.FILTER_TABLE}
        tables = self._run([{"list": {"tables": {"family": "ip"}}}])
        if not any(entry.get("table", {}).get("name") == rules.FILTER_TABLE for entry in tables):
            return
        for entry in self._run([{"list": {"table": filter_table}}]):
            if "chain" in entry:
                self.filter_chains[entry["chain"]["name"]] = entry["chain"]
            elif "rule" in entry:
                self.filter_rules.append(entry["rule"])

    def apply(self, commands: list[rules.Command]) -> None:
        """Run all commands in one transaction, or none. Raises WorkerError."""
        self._run(commands)

    def drops(self, chain: str) -> bool:
        """Whether a chain of `ip filter` drops by policy."""
        return bool(self.filter_chains.get(chain, {}).get("policy") == "drop")

    def forward_chain(self) -> str:
        """Where rules on forwarded packets belong: docker leaves DOCKER-USER alone, and rewrites the rest."""
        leads_to_docker = any(
            rule["chain"] == rules.FORWARD_CHAIN and {"jump": {"target": rules.DOCKER_CHAIN}} in rule.get("expr", ())
            for rule in self.filter_rules
        )
        return rules.DOCKER_CHAIN if leads_to_docker else rules.FORWARD_CHAIN

    def _run(self, commands: list[rules.Command]) -> list[dict[str, Any]]:
        status, output, error = self._nft.json_cmd({"nftables": commands})
        if status != 0:
            raise WorkerError(f"{self._attempt}: nftables refuses its rules: {error.strip()}")
        return list(output["nftables"]) if output else []


def _accepts(firewall: Firewall, bridge: str) -> list[rules.Command]:
    commands: list[rules.Command] = []
    if firewall.drops(rules.FORWARD_CHAIN):
        commands += rules.forward_accepts(bridge, firewall.forward_chain())
    if firewall.drops(rules.INPUT_CHAIN):
        commands += rules.input_accepts(bridge)
    return commands


if __name__ == "__main__":
    main()
