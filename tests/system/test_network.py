"""HostNetwork on real bridges, firewalls and packets.

    inside (netns) --veth-- bridge of the router --forward, masquerade-- veth -- outside (netns, no route back)

The router is the host's own network namespace, or a private one where the firewall is to be played with.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lxdpy.drivers.base import BridgeSpec, LinkSpec
from lxdpy.drivers.network import HostNetwork
from lxdpy.drivers.network.host import in_place
from lxdpy.errors import ConflictError

pytestmark = [pytest.mark.root, pytest.mark.network]

BRIDGE = BridgeSpec("lxdpyt0", "10.249.77.1/24")
OUTSIDE = "10.249.78.2"


class Namespace:
    """A network namespace, named by a process that lives in it; None is the host's."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        enter = () if self.pid is None else ("nsenter", "-t", str(self.pid), "-n")
        return subprocess.run([*enter, *argv], check=check, capture_output=True, text=True, timeout=60)

    def sh(self, script: str) -> str:
        return self.run("sh", "-ec", script).stdout

    def drive(self, call: str, bridge: BridgeSpec = BRIDGE) -> str:
        """Run `call` on a HostNetwork `host` in the namespace and return what it prints."""
        program = (
            "import asyncio\n"
            "from lxdpy.drivers.base import BridgeSpec\n"
            "from lxdpy.drivers.network import HostNetwork\n"
            "from lxdpy.drivers.network.host import in_place\n"
            f"bridge = {bridge!r}\nhost = HostNetwork()\n{call}\n"
        )
        return self.run(sys.executable, "-I", "-W", "error", "-c", program).stdout.strip()

    def ensure(self) -> None:
        self.drive("asyncio.run(host.ensure_bridge(bridge))")

    def in_place(self) -> bool:
        return self.drive("print(in_place(bridge))") == "True"

    def remove(self) -> None:
        self.drive("asyncio.run(host.remove_bridge(bridge.name))")

    def reaches_outside(self) -> bool:
        return self.run("busybox", "ping", "-c", "1", "-W", "1", OUTSIDE, check=False).returncode == 0


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new network namespace with loopback up."""
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep 600"], stdout=-1
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Namespace(process.pid)
        finally:
            process.kill()


@pytest.fixture
def private() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


@pytest.fixture
def host() -> Iterator[Namespace]:
    """The host's namespace, where no bridge, address or rule of the tests may stay behind."""
    here = Namespace(None)
    yield here
    asyncio.run(HostNetwork().remove_bridge(BRIDGE.name))
    assert BRIDGE.name not in here.sh("ip -br link; nft list ruleset")


@contextmanager
def topology(router: Namespace) -> Iterator[Namespace]:
    """Put `outside` and `inside` on the router, whose bridge exists; gives `inside`."""
    with ExitStack() as stack:
        outside, inside = stack.enter_context(namespace()), stack.enter_context(namespace())
        # Deleted by hand: a dead namespace takes its interfaces down some time later.
        for name in ("lxdpyt0o", "lxdpyt0i"):
            stack.callback(router.run, "ip", "link", "delete", name, check=False)
        router.sh(
            f"ip link add lxdpyt0o type veth peer name eth0 netns {outside.pid}\n"
            "ip address add 10.249.78.1/24 dev lxdpyt0o; ip link set lxdpyt0o up\n"
            f"ip link add lxdpyt0i type veth peer name eth0 netns {inside.pid}\n"
            "ip link set lxdpyt0i master lxdpyt0 up\n"
        )
        outside.sh(f"ip address add {OUTSIDE}/24 dev eth0; ip link set eth0 up")
        inside.sh("ip address add 10.249.77.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.249.77.1")
        yield inside


def test_bridge_on_the_host(host: Namespace) -> None:
    network = HostNetwork()
    asyncio.run(network.ensure_bridge(BRIDGE))
    assert in_place(BRIDGE)
    assert "10.249.77.1/24 brd 10.249.77.255" in host.sh("ip address show dev lxdpyt0")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    with topology(host) as inside:
        assert inside.reaches_outside()
    asyncio.run(network.remove_bridge(BRIDGE.name))
    asyncio.run(network.remove_bridge(BRIDGE.name))
    assert not in_place(BRIDGE)


def test_without_nat_nothing_is_masqueraded(private: Namespace) -> None:
    spec = BridgeSpec(BRIDGE.name, BRIDGE.ipv4_address, ipv4_nat=False)
    private.drive("asyncio.run(host.ensure_bridge(bridge))", spec)
    assert private.drive("print(in_place(bridge))", spec) == "True"
    assert not private.in_place()
    assert "masquerade" not in private.sh("nft list ruleset")


def test_ensure_again_changes_nothing(private: Namespace) -> None:
    private.ensure()
    before = private.sh("nft -a list ruleset; ip address show dev lxdpyt0")
    private.ensure()
    assert private.sh("nft -a list ruleset; ip address show dev lxdpyt0") == before


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "ip link set lxdpyt0 down",
        "ip link delete lxdpyt0",
        "ip address flush dev lxdpyt0",
        "echo 0 > /proc/sys/net/ipv4/ip_forward",
        "iptables -P FORWARD DROP",
    ],
)
def test_ensure_repairs(private: Namespace, damage: str) -> None:
    private.ensure()
    assert private.in_place()
    private.sh(damage)
    assert not private.in_place()
    private.ensure()
    assert private.in_place()
    assert private.sh("nft list ruleset").count("masquerade") == 1


def test_another_address_replaces_the_old_one(private: Namespace) -> None:
    private.ensure()
    private.drive("asyncio.run(host.ensure_bridge(bridge))", BridgeSpec(BRIDGE.name, "10.249.79.1/25"))
    addresses = private.sh("ip -4 address show dev lxdpyt0")
    assert "10.249.79.1/25" in addresses
    assert "10.249.77" not in addresses + private.sh("nft list ruleset")


def test_forward_policy_drop(private: Namespace) -> None:
    """As docker sets up a host: dropped by policy, unless DOCKER-USER lets it pass."""
    private.sh(
        "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER\n"
        "iptables -A DOCKER-USER -m conntrack --ctstate INVALID -j DROP; iptables -A DOCKER-USER -j RETURN\n"
    )
    before = private.sh("iptables -S")
    private.ensure()
    assert private.in_place()
    with topology(private) as inside:
        assert inside.reaches_outside()
        private.sh("iptables -F DOCKER-USER")
        assert not inside.reaches_outside()
        private.ensure()
        assert inside.reaches_outside()
    private.sh("iptables -A DOCKER-USER -m conntrack --ctstate INVALID -j DROP; iptables -A DOCKER-USER -j RETURN\n")
    assert private.sh("iptables -S DOCKER-USER").count("lxdpy:lxdpyt0") == 2
    private.remove()
    assert private.sh("iptables -S") == before


def test_policies_drop_without_docker(private: Namespace) -> None:
    private.sh("iptables -P FORWARD DROP; iptables -P INPUT DROP")
    before = private.sh("iptables -S")
    private.ensure()
    assert private.in_place()
    assert "--dport 53" in private.sh("iptables -S INPUT")
    with topology(private) as inside:
        assert inside.reaches_outside()
    private.remove()
    assert private.sh("iptables -S") == before


def test_name_of_another_interface(private: Namespace) -> None:
    private.sh("ip link add lxdpyt0 type veth peer name lxdpyt0w")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        private.ensure()
    assert "ConflictError" in failure.value.stderr
    assert "no bridge but veth" in failure.value.stderr
    private.remove()
    assert "lxdpyt0" in private.sh("ip -br link")


def test_bridge_of_somebody_else_survives(private: Namespace) -> None:
    private.sh("ip link add lxdpyt0 type bridge; ip address add 10.249.80.1/24 dev lxdpyt0")
    private.ensure()
    assert "10.249.80.1/24" in private.sh("ip address show dev lxdpyt0")
    private.remove()
    assert "lxdpyt0" in private.sh("ip -br link")
    assert "lxdpyt0" not in private.sh("nft list ruleset")


def test_overlapping_network(host: Namespace) -> None:
    loopback = BridgeSpec(BRIDGE.name, "127.77.0.1/16")
    with pytest.raises(ConflictError, match=r"overlaps 127\.0\.0\.0/8 of interface lo"):
        asyncio.run(HostNetwork().ensure_bridge(loopback))
    assert BRIDGE.name not in host.sh("ip -br link")


def test_remove_link(private: Namespace) -> None:
    private.sh("ip link add lxdpyt0v type veth peer name lxdpyt0w")
    private.drive("asyncio.run(host.remove_link('lxdpyt0v')); asyncio.run(host.remove_link('lxdpyt0v'))")
    assert "lxdpyt0" not in private.sh("ip -br link")


SIX = BridgeSpec(BRIDGE.name, BRIDGE.ipv4_address, ipv6_address="fd42:77::1/64", ipv6_nat=True)


def test_ipv6_beside_policies_that_drop(private: Namespace) -> None:
    private.sh("ip6tables -P FORWARD DROP; ip6tables -P INPUT DROP; ip link add lxdpyt0u type veth peer name lxdpyt0w")
    private.sh("sysctl -qw net.ipv6.conf.lxdpyt0u.accept_ra=1 net.ipv6.conf.lxdpyt0w.accept_ra=0")
    before = private.sh("ip6tables -S")
    private.drive("asyncio.run(host.ensure_bridge(bridge))", SIX)
    assert private.drive("print(in_place(bridge))", SIX) == "True"
    address = private.sh("ip -6 address show dev lxdpyt0")
    assert "fd42:77::1/64" in address
    assert "tentative" not in address.partition("fd42:77::1/64")[2].partition("\n")[0]
    assert "--dport 547" in private.sh("ip6tables -S INPUT")
    assert private.sh("nft list table inet lxdpy_lxdpyt0").count("masquerade") == 2
    # The host's own interfaces go on listening to routers, and those that did not do not begin to.
    settings = "net.ipv6.conf.lxdpyt0u.accept_ra net.ipv6.conf.lxdpyt0w.accept_ra net.ipv6.conf.all.forwarding"
    assert private.sh(f"sysctl -n {settings}").split() == ["2", "0", "1"]
    private.sh("ip -6 address del fd42:77::1/64 dev lxdpyt0")
    assert private.drive("print(in_place(bridge))", SIX) == "False"
    private.drive("asyncio.run(host.ensure_bridge(bridge))", SIX)
    assert private.drive("print(in_place(bridge))", SIX) == "True"
    # Without IPv6 again, its address goes.
    private.ensure()
    assert "fd42:77::1" not in private.sh("ip -6 address show dev lxdpyt0")
    private.remove()
    assert private.sh("ip6tables -S") == before


def test_mtu_and_hardware_address(private: Namespace) -> None:
    wanted = BridgeSpec(BRIDGE.name, BRIDGE.ipv4_address, mtu=1400, hwaddr="00:16:3e:77:77:77")
    private.ensure()
    private.drive("asyncio.run(host.ensure_bridge(bridge))", wanted)
    link = private.sh("ip link show dev lxdpyt0")
    assert "mtu 1400" in link
    assert "00:16:3e:77:77:77" in link
    private.ensure()
    assert "mtu 1500" in private.sh("ip link show dev lxdpyt0")


def test_interfaces(private: Namespace) -> None:
    private.ensure()
    private.sh("ip link add lxdpyt0v type veth peer name lxdpyt0w; ip link set lxdpyt0v master lxdpyt0")
    seen = private.drive("for each in host.interfaces(): print(each.usage.name, each.driver or '-', each.usage.kind)")
    assert set(seen.splitlines()) >= {"lo - loopback", "lxdpyt0 bridge broadcast", "lxdpyt0v veth broadcast"}


def test_plug_and_unplug(private: Namespace) -> None:
    private.ensure()
    link = LinkSpec(
        "veth", "lxdpyt0v", "lxdpyt0", "eth3", "00:16:3e:00:00:07", 1400, ("10.249.77.9/24",), ("10.249.77.1",)
    )
    with namespace() as inside:
        plug = f"from lxdpy.drivers.base import LinkSpec\nasyncio.run(host.plug({link!r}, {inside.pid}))"
        private.drive(plug)
        assert "10.249.77.9/24 brd 10.249.77.255" in inside.sh("ip address show dev eth3")
        assert "mtu 1400" in inside.sh("ip link show dev eth3")
        assert "00:16:3e:00:00:07" in inside.sh("ip link show dev eth3")
        assert "default via 10.249.77.1" in inside.sh("ip route")
        assert "master lxdpyt0" in private.sh("ip link show dev lxdpyt0v")
        with pytest.raises(subprocess.CalledProcessError) as failure:
            private.drive(plug)
        assert "ConflictError" in failure.value.stderr
        private.drive(plug.replace("host.plug", "host.unplug"))
        assert "eth3" not in inside.sh("ip -br link")
        # A second default route can't be: nothing of the NIC is left.
        inside.sh("ip link add other type veth peer name otherw; ip link set other up; ip route add default dev other")
        with pytest.raises(subprocess.CalledProcessError) as failure:
            private.drive(plug)
        assert "File exists" in failure.value.stderr
        assert "eth3" not in inside.sh("ip -br link")
        assert "lxdpyt0v" not in private.sh("ip -br link")
        with pytest.raises(subprocess.CalledProcessError) as failure:
            private.drive(plug.replace("parent='lxdpyt0'", "parent='nowhere'"))
        assert "NotFoundError" in failure.value.stderr
