from collections.abc import Callable

import pytest

from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.services.instances import Stop
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]


def test_addresses_are_given_in_order_and_kept(play: Play) -> None:
    async def first(host: Host) -> None:
        for name in ("a", "b"):
            await create(host, name)
        assert [(lease.instance, lease.address) for lease in host.networks.leases("lxdpybr0")] == [
            ("a", "10.76.0.2"),
            ("b", "10.76.0.3"),
        ]
        assert len(host.network_host.bridges) == 1

    async def second(host: Host) -> None:
        assert host.networks.get("lxdpybr0").used_by == (
            "/1.0/instances/a",
            "/1.0/instances/b",
            "/1.0/profiles/default",
        )
        await create(host, "c")
        assert host.networks.leases("lxdpybr0")[-1].address == "10.76.0.4"

    play(first, second)


def test_a_pinned_address(play: Play) -> None:
    def nic(address: str) -> dict[str, dict[str, str]]:
        return {"eth0": {"type": "nic", "network": "lxdpybr0", "ipv4.address": address}}

    async def scenario(host: Host) -> None:
        await create(host, "a", devices=nic("10.76.9.9"))
        assert host.networks.leases("lxdpybr0")[0].address == "10.76.9.9"
        with pytest.raises(ConflictError, match="taken"):
            await create(host, "b", devices=nic("10.76.9.9"))
        with pytest.raises(ConflictError, match="taken"):
            await create(host, "c", devices=nic("10.76.0.1"))
        for address in ("10.77.0.1", "10.76.0.0", "10.76.255.255"):
            with pytest.raises(InvalidRequestError, match="not a host address"):
                await host.networks.attach("a", "eth0", nic(address)["eth0"], "00:16:3e:00:00:01")

    play(scenario)


def test_a_network_in_use_stays(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "a")
        with pytest.raises(ConflictError, match="in use by /1"):
            await host.networks.delete("lxdpybr0")
        with pytest.raises(NotFoundError):
            await host.networks.delete("other")
        await host.instances.stop("a", Stop(force=True))
        await host.instances.delete("a")
        await host.networks.delete("lxdpybr0")
        assert host.network_host.bridges == []
        await create(host, "b")
        assert len(host.network_host.bridges) == 1

    play(scenario)
