"""The firewall rules of one bridge, as nftables' JSON (libnftables-json(5)).

    table inet lxdpy_BRIDGE                all ours: made and removed as a whole, in one transaction
        chain rules_FINGERPRINT            empty; says which version of the rules is in place
        chain postrouting                  masquerade what leaves the bridge's networks

    table ip filter, ip6 filter            not ours: iptables' own, touched only where they drop by policy (docker, ufw)
        chain DOCKER-USER or FORWARD       accept what the bridge sends or gets    comment "lxdpy:BRIDGE"
        chain INPUT                        accept DHCP and DNS from the bridge     comment "lxdpy:BRIDGE"

An accept in a table of ours would not help against the latter: every base chain on a packet's way must accept it.
Rules of the legacy iptables back end are out of nftables' reach.
"""

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from lxdpy.drivers.base import BridgeSpec

FILTER_TABLE = "filter"
FORWARD_CHAIN = "FORWARD"
INPUT_CHAIN = "INPUT"
DOCKER_CHAIN = "DOCKER-USER"

Command = dict[str, Any]


def table_name(bridge: str) -> str:
    """Name of the table, of family inet, that holds a bridge's rules."""
    return f"lxdpy_{bridge}"


def comment(bridge: str) -> str:
    """Comment of the rules that a bridge needs in foreign tables."""
    return f"lxdpy:{bridge}"


def marker_chain(bridge: BridgeSpec) -> str:
    """Name of the chain whose presence says that exactly these rules are in place."""
    wanted = json.dumps(_own_chains(bridge), sort_keys=True)
    return f"rules_{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"


def own_table(bridge: BridgeSpec) -> list[Command]:
    """Make the bridge's table, in place of an earlier one."""
    marker = {"chain": {"family": "inet", "table": table_name(bridge.name), "name": marker_chain(bridge)}}
    return [
        *remove_own_table(bridge.name),
        _add({"table": {"family": "inet", "name": table_name(bridge.name)}}),
        *(_add(thing) for thing in _own_chains(bridge)),
        _add(marker),
    ]


def remove_own_table(bridge: str) -> list[Command]:
    """Remove the bridge's table, there or not."""
    table = {"table": {"family": "inet", "name": table_name(bridge)}}
    # Deleting what is not there would fail the transaction.
    return [_add(table), {"delete": table}]


def forward_accepts(bridge: str, family: str, chain: str) -> list[Command]:
    """Accept what the bridge sends and gets, before anything else in a chain of table `filter` of a family."""
    return [_insert_accept(bridge, family, chain, [_interface(key, bridge)]) for key in ("iifname", "oifname")]


def input_accepts(bridge: str, family: str) -> list[Command]:
    """Accept DNS and DHCP from the bridge, and what IPv6 can't do without, before anything else."""
    accepts = [[_port("udp", 53)], [_port("tcp", 53)], [_port("udp", 67 if family == "ip" else 547)]]
    if family == "ip6":
        accepts.append([_match("==", {"meta": {"key": "l4proto"}}, "ipv6-icmp")])
    return [
        _insert_accept(bridge, family, INPUT_CHAIN, [_interface("iifname", bridge), *matches]) for matches in accepts
    ]


def remove_accepts(bridge: str, filter_rules: Iterable[dict[str, Any]]) -> list[Command]:
    """Remove the bridge's rules from among those listed of tables `filter`."""
    return [
        {"delete": {"rule": {key: rule[key] for key in ("family", "table", "chain", "handle")}}}
        for rule in filter_rules
        if rule.get("comment") == comment(bridge)
    ]


def families(bridge: BridgeSpec) -> tuple[str, ...]:
    """nftables' families of what the bridge carries."""
    wanted = (("ip", bridge.ipv4_address), ("ip6", bridge.ipv6_address))
    return tuple(family for family, address in wanted if address)


def _own_chains(bridge: BridgeSpec) -> list[dict[str, Any]]:
    table = table_name(bridge.name)
    masquerades = [
        _masquerade(protocol, ipaddress.ip_interface(address).network)
        for protocol, address, nat in (
            ("ip", bridge.ipv4_address, bridge.ipv4_nat),
            ("ip6", bridge.ipv6_address, bridge.ipv6_nat),
        )
        if address and nat
    ]
    if not masquerades:
        return []
    chain = {
        "family": "inet",
        "table": table,
        "name": "postrouting",
        "type": "nat",
        "hook": "postrouting",
        "prio": 100,
        "policy": "accept",
    }
    return [
        {"chain": chain},
        *(
            {"rule": {"family": "inet", "table": table, "chain": "postrouting", "expr": expressions}}
            for expressions in masquerades
        ),
    ]


def _masquerade(protocol: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[dict[str, Any]]:
    prefix = {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
    return [
        _match("==", {"payload": {"protocol": protocol, "field": "saddr"}}, prefix),
        _match("!=", {"payload": {"protocol": protocol, "field": "daddr"}}, prefix),
        {"masquerade": None},
    ]


def _insert_accept(bridge: str, family: str, chain: str, matches: list[dict[str, Any]]) -> Command:
    rule = {
        "family": family,
        "table": FILTER_TABLE,
        "chain": chain,
        "expr": [*matches, {"accept": None}],
        "comment": comment(bridge),
    }
    return {"insert": {"rule": rule}}


def _interface(key: str, bridge: str) -> dict[str, Any]:
    return _match("==", {"meta": {"key": key}}, bridge)


def _port(protocol: str, port: int) -> dict[str, Any]:
    return _match("==", {"payload": {"protocol": protocol, "field": "dport"}}, port)


def _match(operator: str, left: dict[str, Any], right: Any) -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _add(thing: dict[str, Any]) -> Command:
    return {"add": thing}
