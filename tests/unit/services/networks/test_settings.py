import ipaddress

import pytest

from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services.networks import settings


def test_what_a_configuration_means() -> None:
    found = settings.parse(
        "br7",
        {
            "bridge.hwaddr": "00:16:3E:00:00:01",
            "bridge.mtu": "1400",
            "ipv4.address": "10.1.2.1/24",
            "ipv4.nat": "yes",
            "ipv4.dhcp.ranges": "10.1.2.5-10.1.2.9, 10.1.2.20-10.1.2.20",
            "ipv4.dhcp.expiry": "30m",
            "ipv6.address": "fd42::1/64",
            "dns.search": "a.example, b.example",
            "user.note": "any\ntext",
        },
    )
    assert found.bridge.hwaddr == "00:16:3e:00:00:01"
    assert found.bridge.mtu == 1400
    assert (found.bridge.ipv4_nat, found.bridge.ipv6_nat) == (True, False)
    assert [(str(first), str(last)) for first, last in found.ranges] == [
        ("10.1.2.5", "10.1.2.9"),
        ("10.1.2.20", "10.1.2.20"),
    ]
    assert (found.served.ipv4_dhcp, found.served.ipv4_expiry, found.served.dns) == (True, "30m", "managed")
    assert (found.served.domain, found.served.search) == ("lxd", "a.example,b.example")


def test_no_addresses() -> None:
    found = settings.parse("br7", {"ipv4.address": "none", "ipv6.address": ""})
    assert (found.ipv4, found.ipv6, found.is_served) == (None, None, False)
    only_names = settings.parse("br7", {"ipv4.address": "10.1.2.1/24", "ipv4.dhcp": "false"})
    assert only_names.is_served
    nothing = settings.parse("br7", {"ipv4.address": "10.1.2.1/24", "ipv4.dhcp": "false", "dns.mode": "none"})
    assert not nothing.is_served


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ipv4.address", "10.1.2.1"),
        ("ipv4.address", "10.1.2.0/24"),
        ("ipv4.address", "10.1.2.255/24"),
        ("ipv4.address", "10.1.2.1/31"),
        ("ipv4.address", "127.0.0.1/8"),
        ("ipv4.address", "224.0.0.1/24"),
        ("ipv4.address", "fd42::1/64"),
        ("ipv6.address", "fd42::1%lxdbr0/64"),
        ("ipv6.address", "fd42::1/80"),
        ("ipv6.address", "10.1.2.1/24"),
        ("ipv4.nat", "maybe"),
        ("ipv4.dhcp.ranges", "10.1.2.9-10.1.2.5"),
        ("ipv4.dhcp.ranges", "10.1.2.9"),
        ("ipv4.dhcp.ranges", "10.1.2.9-10.1.3.5"),
        ("ipv4.dhcp.expiry", "soon"),
        ("ipv4.dhcp.expiry", "1h\nuser=root"),
        ("bridge.mtu", "68"),
        ("bridge.mtu", "9" * 30),
        ("bridge.hwaddr", "01:16:3e:00:00:01"),
        ("dns.mode", "wild"),
        ("dns.domain", "a,b"),
        ("dns.domain", "a\ndhcp-script=/bin/sh"),
        ("dns.search", "ok.example,-bad"),
    ],
)
def test_values_that_can_not_be(key: str, value: str) -> None:
    config = {"ipv4.address": "10.1.2.1/24", key: value}
    with pytest.raises(InvalidRequestError, match=key.replace(".", r"\.")):
        settings.parse("br7", config)


def test_keys_that_are_not_offered_and_keys_that_are_none() -> None:
    for key in ("raw.dnsmasq", "bridge.driver", "ipv6.dhcp.stateful", "security.acls", "tunnel.x.id"):
        with pytest.raises(UnsupportedError, match="not supported"):
            settings.parse("br7", {key: "x"})
    with pytest.raises(InvalidRequestError, match="Invalid option") as failure:
        settings.parse("br7", {"colour": "red"})
    assert not isinstance(failure.value, UnsupportedError)


@pytest.mark.parametrize("name", ["", "a", ".", "..", "a/b", "x" * 16, "a b", "ab\n", "a,b"])
def test_names_that_no_bridge_has(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid network name"):
        settings.check_name(name)


def test_addresses_are_picked_for_a_new_network() -> None:
    every_other = [ipaddress.IPv4Network(f"10.{number}.0.0/16") for number in range(0, 256, 2)]
    found = settings.completed({"user.a": "b", "ipv4.dhcp": ""}, new=True, taken=every_other)
    address = ipaddress.IPv4Interface(found["ipv4.address"])
    assert address.network.prefixlen == 24
    assert not any(address in other for other in every_other)
    assert ipaddress.IPv6Interface(found["ipv6.address"]).is_private
    assert (found["ipv4.nat"], found["ipv6.nat"], found["user.a"]) == ("true", "true", "b")
    assert "ipv4.dhcp" not in found
    settings.parse("br7", found)


def test_a_host_without_ipv6() -> None:
    assert settings.completed({}, new=True, taken=(), ipv6=False)["ipv6.address"] == "none"


def test_what_is_said_stays_as_it_was_said() -> None:
    said = {"ipv4.address": "10.1.2.1/24", "ipv6.address": "none"}
    assert settings.completed(said, new=True, taken=()) == said
    assert settings.completed({}, new=False, taken=()) == {}
    again = settings.completed({"ipv4.address": "auto", "ipv4.nat": "false"}, new=False, taken=())
    assert again["ipv4.nat"] == "false"
    assert again["ipv4.address"].startswith("10.")


def test_no_network_is_free() -> None:
    with pytest.raises(InvalidRequestError, match="unused"):
        settings.completed({}, new=True, taken=[ipaddress.IPv4Network("10.0.0.0/8")])


def test_the_address_that_a_host_gives_itself() -> None:
    network = ipaddress.IPv6Network("fd42:5:6:7::/64")
    assert str(settings.slaac(network, "00:16:3e:12:34:56")) == "fd42:5:6:7:216:3eff:fe12:3456"
