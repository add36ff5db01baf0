from typing import Any

import pytest

from lxdpy.drivers.base import BridgeSpec
from lxdpy.drivers.network import rules

BRIDGE = BridgeSpec("lxdpybr0", "10.76.0.1/16")


def verbs(commands: list[rules.Command]) -> list[tuple[str, str]]:
    return [(verb, kind) for command in commands for verb, thing in command.items() for kind in thing]


def test_own_table_replaces_an_earlier_one() -> None:
    commands = rules.own_table(BRIDGE)
    assert verbs(commands) == [
        ("add", "table"),
        ("delete", "table"),
        ("add", "table"),
        ("add", "chain"),
        ("add", "rule"),
        ("add", "chain"),
    ]
    assert commands[-1]["add"]["chain"]["name"] == rules.marker_chain(BRIDGE)


def test_masquerade_is_for_what_leaves_the_network() -> None:
    rule = rules.own_table(BRIDGE)[4]["add"]["rule"]
    network = {"prefix": {"addr": "10.76.0.0", "len": 16}}
    assert [(e["match"]["op"], e["match"]["right"]) for e in rule["expr"][:2]] == [("==", network), ("!=", network)]
    assert rule["expr"][2] == {"masquerade": None}


def test_without_nat_only_the_marker() -> None:
    commands = rules.own_table(BridgeSpec("lxdpybr0", "10.76.0.1/16", ipv4_nat=False))
    assert [kind for _, kind in verbs(commands)] == ["table", "table", "table", "chain"]


@pytest.mark.parametrize(
    "other",
    [
        BridgeSpec("lxdpybr0", "10.77.0.1/16"),
        BridgeSpec("lxdpybr0", "10.76.0.1/17"),
        BridgeSpec("lxdpybr0", "10.76.0.1/16", ipv4_nat=False),
    ],
)
def test_marker_tells_versions_apart(other: BridgeSpec) -> None:
    assert rules.marker_chain(BRIDGE) == rules.marker_chain(BridgeSpec("lxdpybr0", "10.76.0.1/16"))
    assert rules.marker_chain(other) != rules.marker_chain(BRIDGE)


def test_only_rules_of_this_bridge_are_removed() -> None:
    def rule(handle: int, **more: Any) -> dict[str, Any]:
        return {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": handle, "expr": [], **more}

    listed = [rule(1), rule(2, comment="lxdpy:lxdpybr0"), rule(3, comment="lxdpy:lxdpybr01"), rule(4, comment="lxdpy")]
    removed = rules.remove_accepts("lxdpybr0", listed)
    assert removed == [{"delete": {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 2}}}]


def test_accepts_carry_the_comment_they_are_found_by() -> None:
    commands = rules.forward_accepts("lxdpybr0", "ip", rules.DOCKER_CHAIN) + rules.input_accepts("lxdpybr0", "ip")
    assert {command["insert"]["rule"]["comment"] for command in commands} == {"lxdpy:lxdpybr0"}
    assert [command["insert"]["rule"]["chain"] for command in commands] == ["DOCKER-USER"] * 2 + ["INPUT"] * 3


def test_both_protocols_are_masqueraded_where_that_is_wanted() -> None:
    both = BridgeSpec("br7", "10.76.0.1/16", ipv6_address="fd42::1/64", ipv6_nat=True)
    sources = [
        command["add"]["rule"]["expr"][0]["match"]["left"]["payload"]["protocol"]
        for command in rules.own_table(both)
        if "rule" in command.get("add", {})
    ]
    assert sources == ["ip", "ip6"]
    assert rules.families(both) == ("ip", "ip6")
    assert rules.families(BridgeSpec("br7", ipv6_address="fd42::1/64")) == ("ip6",)


def test_ipv6_gets_its_own_accepts() -> None:
    accepts = [command["insert"]["rule"] for command in rules.input_accepts("br7", "ip6")]
    assert {rule["family"] for rule in accepts} == {"ip6"}
    ports = [rule["expr"][1]["match"]["right"] for rule in accepts]
    assert ports == [53, 53, 547, "ipv6-icmp"]
