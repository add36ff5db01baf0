"""Networks with LXD's own client: made, shown, changed, removed; what instances get of them, at once and for good."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pylxd
import pytest
import yaml
from example_registry import ExampleRegistry

from tests.system.daemon import BRIDGE, GATEWAY, SLOT, Daemon, place
from tests.system.lxc import Lxc

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
]

NAME = f"{BRIDGE}n"
SUBNET, OTHER = f"10.{210 + SLOT}.5", f"10.{210 + SLOT}.6"


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


@pytest.fixture
def network(lxc: Lxc) -> Iterator[str]:
    """A network of the test's own; what the test leaves on it goes first."""
    lxc.ok("network", "create", NAME, f"ipv4.address={SUBNET}.1/24", "ipv4.nat=true", "ipv6.address=fd42:5:6:7::1/64")
    yield NAME
    for instance in lxc.json("list"):
        lxc.ok("delete", "--force", instance["name"])
    if any(entry["name"] == NAME for entry in lxc.json("network", "list")):
        lxc.ok("network", "delete", NAME)
    assert not Path("/sys/class/net", NAME).exists()
    assert NAME not in _sh("nft list tables")


@pytest.fixture(scope="module")
def shared(lxc: Lxc) -> Iterator[str]:
    """A network for tests that change nothing."""
    name = f"{BRIDGE}s"
    lxc.ok("network", "create", name, f"ipv4.address={OTHER}.1/24")
    yield name
    lxc.ok("network", "delete", name)


def test_made_shown_and_deleted(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("network", "create", NAME, f"ipv4.address={SUBNET}.1/24")
    shown = lxc.yaml("network", "show", NAME)
    assert shown["config"]["ipv4.address"] == f"{SUBNET}.1/24"
    assert shown["config"]["ipv6.address"].startswith("fd42:")
    assert (shown["type"], shown["managed"], shown["status"], shown["locations"]) == (
        "bridge",
        True,
        "Created",
        ["none"],
    )
    listed = {entry["name"]: entry for entry in lxc.json("network", "list")}
    assert listed["lo"]["type"] == "loopback"
    assert not listed["lo"]["managed"]
    assert listed[NAME]["used_by"] == []
    assert NAME in lxc.ok("network", "list")
    info = lxc.ok("network", "info", NAME)
    assert f"{SUBNET}.1/24 (global)" in info
    assert "Forward delay: 0" in info
    assert (daemon.state_dir / "networks" / NAME / "dnsmasq.pid").exists()
    assert "already exists" in lxc.fails("network", "create", NAME)
    lxc.ok("network", "delete", NAME)
    assert "not found" in lxc.fails("network", "show", NAME)
    assert not Path("/sys/class/net", NAME).exists()
    assert not (daemon.state_dir / "networks" / NAME).exists()


def _pid(lxc: Lxc, name: str) -> int:
    return int(lxc.query(f"/1.0/instances/{name}/state")["pid"])


def _sh(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True, timeout=60).stdout


def test_two_projects_have_an_instance_of_one_name(lxc: Lxc, network: str) -> None:
    own = ("--project", "p1")
    lxc.ok("project", "create", "p1", "-c", "features.images=false", "-c", "features.profiles=false")
    try:
        for where in ((), own):
            lxc.ok("launch", "example", "web", "--network", network, *where)
        lxc.ok("launch", "example", "asks", "--network", network, *own)
        addresses = {
            where: lxc.query(f"/1.0/instances/web/state?project={where}")["network"]["eth0"]["addresses"][0]["address"]
            for where in ("default", "p1")
        }
        assert addresses["default"] in lxc.ok("exec", "web", "--", "nslookup", "web.lxd")
        assert addresses["p1"] not in lxc.ok("exec", "web", "--", "nslookup", "web.lxd")
        assert addresses["p1"] in lxc.ok("exec", "web", "--", "nslookup", "web.p1.lxd")
        for name in ("web", "web.p1.lxd"):
            assert addresses["p1"] in lxc.ok(*own, "exec", "asks", "--", "nslookup", name)
    finally:
        for instance in lxc.json("list", *own):
            lxc.ok("delete", "--force", instance["name"], *own)
        lxc.ok("project", "delete", "p1")


def test_a_dhcp_client_gets_the_leases_address_and_names(lxc: Lxc, daemon: Daemon, network: str) -> None:
    lxc.ok("launch", "example", "dhcp", "--network", network)
    lxc.ok("launch", "example", "other", "--network", network)
    listed = lxc.json("network", "list-leases", network)
    leases = {lease["hostname"]: lease for lease in listed if lease["type"] == "static"}
    given = lxc.ok("exec", "dhcp", "--", "sh", "-ec", _ASK).split()
    assert given == [leases["dhcp"]["address"], f"{SUBNET}.1", f"{SUBNET}.1", "lxd"]
    assert lxc.ok("exec", "dhcp", "--", "cat", "/etc/resolv.conf") == f"search lxd\nnameserver {SUBNET}.1\n"
    for name in ("other.lxd", "other"):
        assert leases["other"]["address"] in lxc.ok("exec", "dhcp", "--", "nslookup", name)
    lxc.ok("exec", "dhcp", "--", "ping", "-c", "1", "-W", "5", "other.lxd")
    leases_file = daemon.state_dir / "networks" / network / "dnsmasq.leases"
    assert leases["dhcp"]["hwaddr"] in leases_file.read_text()
    lxc.ok("delete", "--force", "other")
    _until(lambda: lxc.run("exec", "dhcp", "--", "nslookup", "other.lxd").code != 0)
    # The address is not held for a client that is no more.
    lxc.ok("delete", "--force", "dhcp")
    _until(lambda: leases["dhcp"]["hwaddr"] not in leases_file.read_text())
    address = leases["dhcp"]["address"]
    lxc.ok("init", "example", "next", "--network", network)
    lxc.ok("config", "device", "set", "next", "eth0", f"ipv4.address={address}")
    lxc.ok("start", "next")
    assert lxc.ok("exec", "next", "--", "sh", "-ec", _ASK).split()[0] == address


def test_set_unset_edit_and_rename(lxc: Lxc, daemon: Daemon, network: str) -> None:
    lxc.ok("network", "set", network, "user.owner=me", "bridge.mtu=1400", "dns.domain=test")
    assert lxc.ok("network", "get", network, "user.owner") == "me\n"
    assert "mtu 1400" in _sh(f"ip link show {network}")
    lxc.ok("network", "unset", network, "bridge.mtu")
    assert "mtu 1500" in _sh(f"ip link show {network}")
    lxc.ok("launch", "example", "set", "--network", network)
    assert lxc.ok("exec", "set", "--", "grep", "search", "/etc/resolv.conf") == "search test\n"
    assert "in use" in lxc.fails("network", "delete", network)
    assert "in use" in lxc.fails("network", "rename", network, f"{network}x")
    lxc.ok("delete", "--force", "set")
    shown = lxc.yaml("network", "show", network)
    shown["description"], shown["config"]["ipv4.address"] = "edited", f"{SUBNET}.129/25"
    lxc.ok("network", "edit", network, stdin=yaml.safe_dump(shown).encode())
    assert lxc.yaml("network", "show", network)["description"] == "edited"
    assert f"{SUBNET}.129/25" in _sh(f"ip address show {network}")
    assert f"{SUBNET}.1/24" not in _sh(f"ip address show {network}")
    assert f"{SUBNET}.128/25" in _sh(f"nft list table inet lxdpy_{network}")
    lxc.ok("network", "rename", network, f"{network}x")
    assert not Path("/sys/class/net", network).exists()
    assert not (daemon.state_dir / "networks" / network).exists()
    assert f"{SUBNET}.129/25" in lxc.ok("network", "info", f"{network}x")
    lxc.ok("network", "rename", f"{network}x", network)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("colour=red", "Invalid option"),
        ("raw.dnsmasq=x", "not supported"),
        ("ipv4.address=10.0.0.0/24", "not a host's address"),
        ("ipv4.address=nowhere", "ipv4.address"),
        ("ipv4.nat=perhaps", "boolean"),
        ("ipv4.dhcp.ranges=10.0.0.1-10.0.0.2", "not in the network"),
        ("bridge.mtu=7", "MTU"),
        ("ipv4.address=192.0.2.2/24", "overlaps"),
    ],
)
def test_what_can_not_be_is_refused_and_changes_nothing(lxc: Lxc, shared: str, option: str, complaint: str) -> None:
    before = lxc.yaml("network", "show", shared)
    assert complaint in lxc.fails("network", "set", shared, option)
    assert lxc.yaml("network", "show", shared) == before
    assert f"{OTHER}.1/24" in lxc.ok("network", "info", shared)


def test_what_can_not_be_made(lxc: Lxc) -> None:
    assert 'only "bridge" is supported' in lxc.fails("network", "create", NAME, "--type=macvlan", "parent=eth0")
    assert "Invalid network name" in lxc.fails("network", "create", "a b")
    assert "overlaps" in lxc.fails("network", "create", NAME, f"ipv4.address={GATEWAY}/24")
    assert "interface of that name" in lxc.fails("network", "create", "lo")
    assert NAME not in [entry["name"] for entry in lxc.json("network", "list")]


def test_attach_and_detach_while_it_runs(lxc: Lxc, network: str) -> None:
    lxc.ok("launch", "example", "plug")
    lxc.ok("network", "attach", network, "plug", "extra", "eth7")
    assert f"{SUBNET}." in lxc.ok("exec", "plug", "--", "ip", "address", "show", "eth7")
    lxc.ok("exec", "plug", "--", "ping", "-c", "1", "-W", "5", f"{SUBNET}.1")
    assert "/1.0/instances/plug" in lxc.yaml("network", "show", network)["used_by"]
    (lease,) = [entry for entry in lxc.json("network", "list-leases", network) if entry["type"] == "static"]
    assert lease["hostname"] == "plug"
    assert lease["hwaddr"] == lxc.ok("config", "get", "plug", "volatile.extra.hwaddr").strip()
    link = lxc.ok("config", "get", "plug", "volatile.extra.host_name").strip()
    assert Path("/sys/class/net", network, "brif", link).exists()
    lxc.ok("restart", "plug", "--force")
    assert lease["address"] in lxc.ok("exec", "plug", "--", "ip", "address", "show", "eth7")
    lxc.ok("network", "detach", network, "plug", "extra")
    assert lxc.run("exec", "plug", "--", "ip", "link", "show", "eth7").code != 0
    assert lxc.yaml("network", "show", network)["used_by"] == []
    assert [entry["type"] for entry in lxc.json("network", "list-leases", network)] == ["gateway", "gateway"]
    lxc.ok("stop", "plug", "--force")


def test_devices_of_a_profile_are_overridden_and_pinned(lxc: Lxc, network: str) -> None:
    lxc.ok("launch", "example", "pin")
    lxc.ok("config", "device", "override", "pin", "eth0", f"network={network}", f"ipv4.address={SUBNET}.77")
    assert f"{SUBNET}.77/24" in lxc.ok("exec", "pin", "--", "ip", "address", "show", "eth0")
    assert f"default via {SUBNET}.1" in lxc.ok("exec", "pin", "--", "ip", "route")
    before = lxc.yaml("config", "show", "pin")
    assert "has it" in lxc.fails(
        "config", "device", "add", "pin", "eth1", "nic", f"network={network}", f"ipv4.address={SUBNET}.77"
    )
    assert "not found" in lxc.fails("config", "device", "add", "pin", "eth1", "nic", "network=nowhere")
    assert lxc.yaml("config", "show", "pin") == before
    lxc.ok("config", "device", "remove", "pin", "eth0")
    assert GATEWAY.rpartition(".")[0] in lxc.ok("exec", "pin", "--", "ip", "address", "show", "eth0")


def test_profiles_attach_running_instances(lxc: Lxc, network: str) -> None:
    lxc.ok("profile", "create", "wired")
    lxc.ok("launch", "example", "prof", "--profile", "default", "--profile", "wired")
    lxc.ok("network", "attach-profile", network, "wired", "more", "eth9")
    assert f"{SUBNET}." in lxc.ok("exec", "prof", "--", "ip", "address", "show", "eth9")
    assert lxc.yaml("network", "show", network)["used_by"] == ["/1.0/instances/prof", "/1.0/profiles/wired"]
    lxc.ok("network", "detach-profile", network, "wired", "more")
    assert lxc.run("exec", "prof", "--", "ip", "link", "show", "eth9").code != 0
    assert "volatile.more.host_name" not in lxc.yaml("config", "show", "prof")["config"]
    said = lxc.fails("profile", "device", "add", "wired", "more", "nic", f"network={network}", "name=eth0")
    assert "prof: Cannot plug in" in said
    lxc.ok("profile", "device", "remove", "wired", "more")
    lxc.ok("delete", "--force", "prof")
    lxc.ok("profile", "delete", "wired")


def test_a_name_that_the_container_has_already_is_refused(lxc: Lxc, network: str) -> None:
    lxc.ok("launch", "example", "twice")
    links = len(os.listdir("/sys/class/net"))
    assert "already" in lxc.fails("network", "attach", network, "twice", "extra", "eth0")
    assert "extra" not in lxc.yaml("config", "show", "twice")["devices"]
    assert len(os.listdir("/sys/class/net")) == links
    lxc.ok("config", "device", "add", "twice", "none", "none")


def test_pylxd(daemon: Daemon) -> None:
    client = pylxd.Client(endpoint=str(daemon.socket))
    made = client.networks.create(NAME)
    assert (made.type, made.managed, made.description) == ("bridge", True, "")
    assert NAME in [network.name for network in client.networks.all()]
    made.config["ipv4.address"] = f"{SUBNET}.1/24"
    made.save()
    assert client.networks.get(NAME).config["ipv4.address"] == f"{SUBNET}.1/24"
    assert made.state().addresses[0]["address"] == f"{SUBNET}.1"
    made.rename(f"{NAME}x")
    client.networks.get(f"{NAME}x").delete()
    with pytest.raises(pylxd.exceptions.NotFound):
        client.networks.get(f"{NAME}x")
    config = {"ipv4.address": f"{SUBNET}.1/24", "ipv6.address": "none", "bridge.hwaddr": "00:16:3e:12:34:56"}
    exact = client.networks.create(NAME, description="exact", config=config)
    assert (exact.config, exact.description) == (config, "exact")
    assert "00:16:3e:12:34:56" in _sh(f"ip link show {NAME}")
    exact.delete()
    client.api.session.close()


def test_ipv6_by_router_advertisements(lxc: Lxc, network: str) -> None:
    lxc.ok("launch", "example", "six", "--network", network)
    _until(lambda: "fd42:5:6:7:" in lxc.ok("exec", "six", "--", "ip", "-6", "address", "show", "eth0"))
    leases = {entry["type"]: entry["address"] for entry in lxc.json("network", "list-leases", network)}
    assert leases["dynamic"] in lxc.ok("exec", "six", "--", "ip", "-6", "address", "show", "eth0")
    _until(lambda: lxc.run("exec", "six", "--", "ping", "-6", "-c", "1", "-W", "2", "fd42:5:6:7::1").code == 0)
    assert "default via fe80" in lxc.ok("exec", "six", "--", "ip", "-6", "route")
    assert "masquerade" not in _sh(f"nft list table inet lxdpy_{network}").partition("ip6")[2]
    lxc.ok("network", "set", network, "ipv6.nat=true")
    assert "masquerade" in _sh(f"nft list table inet lxdpy_{network}").partition("ip6")[2]


def test_network_of_no_addresses(lxc: Lxc, daemon: Daemon, network: str) -> None:
    lxc.ok("network", "set", network, "ipv4.address=none", "ipv6.address=none", "ipv4.nat=")
    assert not (daemon.state_dir / "networks" / network).exists()
    lxc.ok("launch", "example", "bare", "--network", network)
    assert "inet " not in lxc.ok("exec", "bare", "--", "ip", "-4", "address", "show", "eth0")
    assert "has no IPv4" in lxc.fails("config", "device", "set", "bare", "eth0", "ipv4.address=10.0.0.1")


def test_ranges_and_no_dhcp(lxc: Lxc, network: str) -> None:
    lxc.ok("network", "set", network, f"ipv4.dhcp.ranges={SUBNET}.50-{SUBNET}.50", "ipv4.dhcp.expiry=2h")
    lxc.ok("launch", "example", "ranged", "--network", network)
    assert f"{SUBNET}.50/24" in lxc.ok("exec", "ranged", "--", "ip", "address", "show", "eth0")
    lxc.ok("init", "example", "late", "--network", network)
    assert "not found" in lxc.fails("config", "device", "add", "late", "eth1", "nic", "network=nowhere")
    assert "no free address" in lxc.fails("start", "late")
    lxc.ok("network", "set", network, "ipv4.dhcp=false")
    lxc.ok("start", "late")
    assert "inet " not in lxc.ok("exec", "late", "--", "ip", "-4", "address", "show", "eth0")


def test_macvlan_p2p_and_bridges_of_others(lxc: Lxc, network: str) -> None:
    # The host's bridge stands in for hardware.
    lxc.ok("launch", "example", "kinds")
    lxc.ok("config", "device", "add", "kinds", "mac0", "nic", "nictype=macvlan", f"parent={network}")
    lxc.ok("config", "device", "add", "kinds", "p0", "nic", "nictype=p2p", f"host_name={network}p")
    lxc.ok("config", "device", "add", "kinds", "br0", "nic", "nictype=bridged", f"parent={network}")
    for _ in ("plugged", "started"):
        assert "macvlan mode bridge" in _sh(f"nsenter -t {_pid(lxc, 'kinds')} -n ip -d link show mac0")
        assert ",UP" in lxc.ok("exec", "kinds", "--", "ip", "link", "show", "p0")
        assert f"{network}p" in os.listdir("/sys/class/net")
        assert f"inet {SUBNET}." in lxc.ok("exec", "kinds", "--", "ip", "address", "show", "br0")
        lxc.ok("restart", "kinds", "--force")
    assert "no interface" in lxc.fails(
        "config", "device", "add", "kinds", "x", "nic", "nictype=bridged", "parent=nowhere"
    )
    assert "no bridge" in lxc.fails("config", "device", "add", "kinds", "x", "nic", "nictype=bridged", "parent=lo")
    for device in ("mac0", "p0", "br0"):
        lxc.ok("config", "device", "remove", "kinds", device)
        assert lxc.run("exec", "kinds", "--", "ip", "link", "show", device).code != 0


def test_an_interface_of_the_host_is_lent(lxc: Lxc) -> None:
    hardware = f"{BRIDGE}h"
    _sh(f"ip link add {hardware} type veth peer name {hardware}w")
    try:
        lxc.ok("init", "example", "lent")
        lxc.ok("config", "device", "add", "lent", "phys", "nic", "nictype=physical", f"parent={hardware}", "name=eth5")
        lxc.ok("start", "lent")
        assert "eth5" in lxc.ok("exec", "lent", "--", "ip", "link", "show", "eth5")
        assert not Path("/sys/class/net", hardware).exists()
        assert "while it runs" in lxc.fails("config", "device", "remove", "lent", "phys")
        lxc.ok("stop", "lent", "--force")
        _until(lambda: Path("/sys/class/net", hardware).exists())
        lxc.ok("config", "device", "remove", "lent", "phys")
        lxc.ok("delete", "lent")
    finally:
        _sh(f"ip link delete {hardware}")


_ASK = """
printf '#!/bin/sh\n[ "$1" = bound ] && echo $ip $router $dns $domain\n' >/tmp/told
chmod +x /tmp/told
udhcpc -i eth0 -n -q -f -s /tmp/told 2>/dev/null
"""


def _until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
