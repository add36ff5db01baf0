"""The driver's side of the helper: small programs stand in for it. What the real one does: tests/system."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from lxdpy.drivers.base import BridgeSpec
from lxdpy.drivers.network import HostNetwork
from lxdpy.errors import ConflictError, InvalidRequestError, WorkerError

BRIDGE = BridgeSpec("lxdpyt-none", "10.249.60.1/24")


def network(program: str, *, timeout_s: float = 30.0) -> HostNetwork:
    return HostNetwork(helper=(sys.executable, "-I", "-S", "-c", program), timeout_s=timeout_s)


def test_request_and_success(tmp_path: Path) -> None:
    seen = tmp_path / "request"
    host = network(f"import sys; open({str(seen)!r}, 'w').write(sys.stdin.read()); print('{{}}')")
    asyncio.run(host.ensure_bridge(BRIDGE))
    assert (
        '"operation": "ensure_bridge", "bridge": {"name": "lxdpyt-none", "ipv4_address": "10.249.60.1/24"'
        in seen.read_text()
    )
    asyncio.run(host.remove_bridge("lxdpyt-none"))
    assert seen.read_text() == '{"operation": "remove_bridge", "name": "lxdpyt-none"}'


def test_errors_keep_their_type() -> None:
    host = network("""print('{"error": "conflict", "message": "the name is taken"}')""")
    with pytest.raises(ConflictError, match="the name is taken"):
        asyncio.run(host.ensure_bridge(BRIDGE))


def test_helper_that_crashes() -> None:
    host = network("raise ValueError('all wrong')")
    with pytest.raises(WorkerError, match=r'bridge "lxdpyt-none": .* status 1: ValueError: all wrong'):
        asyncio.run(host.ensure_bridge(BRIDGE))


def test_helper_that_hangs() -> None:
    host = network("import time; time.sleep(60)", timeout_s=0.2)
    with pytest.raises(WorkerError, match=r"did not end within 0\.2 s"):
        asyncio.run(host.remove_bridge("lxdpyt-none"))


def test_helper_that_is_not_there() -> None:
    host = HostNetwork(helper=("/nonexistent/python",))
    with pytest.raises(WorkerError, match="did not start"):
        asyncio.run(host.remove_bridge("lxdpyt-none"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "x" * 16, "a b", 'a"', "br0\n", "-\0"])
def test_names_that_no_interface_has(name: str) -> None:
    host = network("raise SystemExit(1)")
    with pytest.raises(InvalidRequestError, match="Invalid name"):
        asyncio.run(host.remove_bridge(name))
    with pytest.raises(InvalidRequestError, match="Invalid name"):
        asyncio.run(host.ensure_bridge(BridgeSpec(name, BRIDGE.ipv4_address)))


@pytest.mark.parametrize("address", ["10.0.0.1/33", "fd42::1/64", "gateway"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid address"):
        asyncio.run(network("raise SystemExit(1)").ensure_bridge(BridgeSpec("lxdpyt-none", address)))


def test_a_missing_link_is_fine() -> None:
    asyncio.run(HostNetwork().remove_link("lxdpyt-none"))


def test_what_is_no_veth_is_nobodys_leftover() -> None:
    asyncio.run(HostNetwork().remove_link("lo"))
    assert "lo" in {name for _, name in socket.if_nameindex()}
