"""Networks outlive the daemon, and are put right by the next one; with LXD's own client."""

import os
import signal
import socket
import sqlite3
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


@pytest.fixture
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


@pytest.fixture
def network(lxc: Lxc) -> str:
    lxc.ok("network", "create", NAME, f"ipv4.address={SUBNET}.1/24", "ipv4.nat=true", "ipv6.address=none")
    return NAME


def test_what_serves_outlives_the_daemon_and_is_started_again(lxc: Lxc, daemon: Daemon, network: str) -> None:
    lxc.ok("launch", "example", "live", "--network", network)
    first, pid = _dnsmasq(daemon, network), _pid(lxc, "live")
    daemon.kill()
    assert SUBNET in _sh(f"nsenter -t {pid} -n busybox nslookup live.lxd {SUBNET}.1")
    daemon.start()
    lxc.ok("exec", "live", "--", "ping", "-c", "1", "-W", "5", "live.lxd")
    assert _dnsmasq(daemon, network) == first
    os.kill(first, signal.SIGKILL)
    _until(lambda: _dnsmasq(daemon, network) not in (0, first))
    assert SUBNET in lxc.ok("exec", "live", "--", "nslookup", "live.lxd")
    daemon.kill()
    os.kill(_dnsmasq(daemon, network), signal.SIGKILL)
    _sh(f"nft delete table inet lxdpy_{network}")
    daemon.start()
    _until(lambda: _dnsmasq(daemon, network) != 0)
    assert "masquerade" in _sh(f"nft list table inet lxdpy_{network}")
    assert SUBNET in lxc.ok("exec", "live", "--", "nslookup", "live.lxd")


def test_what_can_not_be_served_costs_apps_nothing_but_names(lxc: Lxc, daemon: Daemon, network: str) -> None:
    os.kill(_dnsmasq(daemon, network), signal.SIGKILL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        _until(lambda: _binds(taken, (f"{SUBNET}.1", 53)), pause_s=0.01)
        lxc.ok("launch", "example", "mute", "--network", network)
        assert f"{SUBNET}." in lxc.ok("exec", "mute", "--", "ip", "address", "show", "eth0")
        assert f"nameserver {SUBNET}.1" not in lxc.ok("exec", "mute", "--", "cat", "/etc/resolv.conf")
        assert "Address already in use" in daemon.log.read_text()
        assert "Address already in use" in lxc.fails("network", "set", network, "dns.domain=other")
        assert "dns.domain" not in lxc.yaml("network", "show", network)["config"]
    # It is tried again without being asked for.
    _until(lambda: _dnsmasq(daemon, network) != 0)
    os.kill(_dnsmasq(daemon, network), signal.SIGKILL)
    lxc.ok("delete", "--force", "mute")
    lxc.ok("network", "delete", network)
    assert not (daemon.state_dir / "networks" / network).exists()


def test_what_is_of_no_network_is_stopped(lxc: Lxc, daemon: Daemon, network: str) -> None:
    """As when the daemon was killed while it deleted a network, and its database is an older one."""
    daemon.stop()
    _sh(f"ip link delete {network}; nft delete table inet lxdpy_{network}")
    with sqlite3.connect(daemon.state_dir / "lxdpy.db") as database:
        database.execute("DELETE FROM networks")
    database.close()
    assert _dnsmasq(daemon, network)
    daemon.start()
    _until(lambda: not _dnsmasq(daemon, network))
    assert not (daemon.state_dir / "networks" / network).exists()


def test_a_network_is_back_when_its_bridge_was_lost(lxc: Lxc, daemon: Daemon, network: str) -> None:
    """As after the host's restart."""
    daemon.stop()
    _sh(f"ip link delete {network}; nft delete table inet lxdpy_{network}")
    daemon.start()
    _until(lambda: f"{SUBNET}.1/24" in _sh(f"ip address show {network} || true"))
    lxc.ok("launch", "example", "back", "--network", network)
    told = lxc.ok("exec", "back", "--", "sh", "-ec", _ASK).split()
    assert told[1:] == [f"{SUBNET}.1", f"{SUBNET}.1", "lxd"]


_ASK = """
printf '#!/bin/sh\n[ "$1" = bound ] && echo $ip $router $dns $domain\n' >/tmp/told
chmod +x /tmp/told
udhcpc -i eth0 -n -q -f -s /tmp/told 2>/dev/null
"""


def _dnsmasq(daemon: Daemon, network: str) -> int:
    """Pid of the process that serves a network; 0 when there is none."""
    option = f"--conf-file={daemon.state_dir}/networks/{network}/dnsmasq.conf".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if option in process.joinpath("cmdline").read_bytes().split(b"\0"):
                return int(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def _pid(lxc: Lxc, name: str) -> int:
    return int(lxc.query(f"/1.0/instances/{name}/state")["pid"])


def _sh(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True, timeout=60).stdout


def _binds(sock: socket.socket, address: tuple[str, int]) -> bool:
    try:
        sock.bind(address)
    except OSError:
        return False
    return True


def _until(condition: Callable[[], bool], timeout_s: float = 20, pause_s: float = 0.1) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause_s)
