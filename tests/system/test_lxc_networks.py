"""Networks with LXD's own client: made, shown, changed, removed; what instances get of them, at once and for good."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import BRIDGE, SLOT, Daemon, place
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
SUBNET = f"10.{210 + SLOT}.5"


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


def _sh(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_dhcp_client_gets_the_leases_address_and_names(lxc: Lxc, network: str) -> None:
    lxc.ok("launch", "example", "dhcp", "--network", network)
    lxc.ok("launch", "example", "other", "--network", network)
    leases = {lease["hostname"]: lease for lease in lxc.json("network", "list-leases", network)}
    given = lxc.ok("exec", "dhcp", "--", "sh", "-ec", _ASK).split()
    assert given == [leases["dhcp"]["address"], f"{SUBNET}.1", f"{SUBNET}.1", "lxd"]
    assert lxc.ok("exec", "dhcp", "--", "cat", "/etc/resolv.conf") == f"search lxd\nnameserver {SUBNET}.1\n"
    for name in ("other.lxd", "other"):
        assert leases["other"]["address"] in lxc.ok("exec", "dhcp", "--", "nslookup", name)
    lxc.ok("exec", "dhcp", "--", "ping", "-c", "1", "-W", "5", "other.lxd")
    lxc.ok("delete", "--force", "other")
    _until(lambda: lxc.run("exec", "dhcp", "--", "nslookup", "other.lxd").code != 0)


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
