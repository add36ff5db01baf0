from dataclasses import replace

from lxdpy.drivers.base import BridgeSpec, ServedHost, ServedNetwork
from lxdpy.drivers.network import dnsmasq_conf

BRIDGE = BridgeSpec("br7", "10.1.2.1/24")
NETWORK = ServedNetwork(BRIDGE, True, "1h", True, "managed", "lxd", "")
HOST = ServedHost("00:16:3e:00:00:01", "10.1.2.3", "web")


def lines(network: ServedNetwork) -> list[str]:
    return dnsmasq_conf.configuration(network, 5, "/state/networks/br7", "dnsmasq").splitlines()


def test_addresses_are_given_to_hosts_that_are_known_and_to_nobody_else() -> None:
    found = lines(NETWORK)
    assert "dhcp-range=10.1.2.0,static,255.255.255.0,1h" in found
    assert "dhcp-hostsdir=/state/networks/br7/dhcp" in found
    assert dnsmasq_conf.dhcp_host(NETWORK, HOST) == "00:16:3e:00:00:01,10.1.2.3,web\n"


def test_names() -> None:
    managed = {"domain=lxd", "local=/lxd/", "hostsdir=/state/networks/br7/names", "dhcp-ignore-names"}
    assert managed <= set(lines(NETWORK))
    assert dnsmasq_conf.host_name(NETWORK, HOST) == "10.1.2.3 web.lxd web\n"
    elsewhere = replace(HOST, name="web.p1")
    assert dnsmasq_conf.host_name(NETWORK, elsewhere) == "10.1.2.3 web.p1.lxd web.p1\n"
    assert dnsmasq_conf.dhcp_host(NETWORK, elsewhere) == "00:16:3e:00:00:01,10.1.2.3\n"
    dynamic = replace(NETWORK, dns="dynamic")
    assert not {"hostsdir=/state/networks/br7/names", "dhcp-ignore-names"} & set(lines(dynamic))
    assert dnsmasq_conf.dhcp_host(dynamic, HOST) == "00:16:3e:00:00:01,10.1.2.3\n"
    none = lines(replace(NETWORK, dns="none"))
    assert "dhcp-ignore-names" in none
    assert "domain=lxd" not in none


def test_without_dhcp() -> None:
    assert not [line for line in lines(replace(NETWORK, ipv4_dhcp=False)) if line.startswith("dhcp-range")]


def test_ipv6() -> None:
    six = replace(NETWORK, bridge=replace(BRIDGE, ipv4_address="", ipv6_address="fd42::1/64"))
    assert "dhcp-range=::,constructor:br7,ra-stateless,ra-names,64" in lines(six)
    assert "dhcp-range=::,constructor:br7,ra-only,64" in lines(replace(six, ipv6_dhcp=False))
    assert "listen-address=fd42::1" in lines(six)


def test_an_interface_that_was_made_anew_is_another_configuration() -> None:
    assert dnsmasq_conf.configuration(NETWORK, 5, "/d", "u") != dnsmasq_conf.configuration(NETWORK, 6, "/d", "u")
