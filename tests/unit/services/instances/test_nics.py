"""NICs of instances that run, on a host and containers that live in memory."""

import dataclasses
from collections.abc import Callable, Mapping

import pytest

from lxdpy.errors import ConflictError, NotFoundError, UnsupportedError, WorkerError
from lxdpy.services.instances import Instance, InstanceSettings, Stop
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]
EXTRA = {"type": "nic", "network": "br7", "name": "eth7"}


def with_devices(devices: Mapping[str, Mapping[str, str]]) -> Callable[[Instance], InstanceSettings]:
    def wanted(current: Instance) -> InstanceSettings:
        record = current.record
        return InstanceSettings(config=record.config, devices={**record.devices, **devices}, profiles=record.profiles)

    return wanted


async def network(host: Host) -> None:
    await host.networks.create("br7", "", "", {"ipv4.address": "10.9.0.1/24", "ipv6.address": "none"})


def test_nics_are_plugged_in_and_out_while_it_runs(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await network(host)
        await create(host, "a", start=True)
        await host.instances.update("a", with_devices({"extra": EXTRA}))
        (link,) = host.network_host.plugged
        assert (link.kind, link.parent, link.name, link.addresses) == ("veth", "br7", "eth7", ("10.9.0.2/24",))
        # The first one has the default route.
        assert link.gateways == ()
        config = host.instances.get("a").record.config
        assert config["volatile.extra.hwaddr"] == link.hwaddr
        assert config["volatile.extra.host_name"] == link.host_name
        await host.instances.update("a", with_devices({"extra": {"type": "none"}}))
        assert [gone.host_name for gone in host.network_host.unplugged] == [link.host_name]
        assert "volatile.extra.host_name" not in host.instances.get("a").record.config
        assert host.networks.leases("br7") == []

    play(scenario)


def test_a_changed_nic_is_another_one_with_the_same_hardware_address(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await network(host)
        await create(host, "a", start=True)
        hwaddr = host.instances.get("a").record.config["volatile.eth0.hwaddr"]
        await host.instances.update("a", with_devices({"eth0": {"type": "nic", "network": "br7"}}))
        (link,) = host.network_host.plugged
        assert (link.hwaddr, link.gateways) == (hwaddr, ("10.9.0.1",))
        assert host.networks.leases("lxdpybr0") == []

    play(scenario)


@pytest.mark.parametrize(
    ("device", "error"),
    [
        ({"type": "nic", "network": "nowhere"}, NotFoundError),
        ({"type": "nic", "network": "br7", "ipv4.address": "10.9.0.1"}, ConflictError),
        ({"type": "nic", "nictype": "physical", "parent": "eth0"}, UnsupportedError),
    ],
)
def test_what_can_not_be_plugged_in_changes_nothing(play: Play, device: dict[str, str], error: type[Exception]) -> None:
    async def scenario(host: Host) -> None:
        await network(host)
        await create(host, "a", start=True)
        await host.instances.update("a", with_devices({"extra": EXTRA}))
        before = host.instances.get("a").record
        with pytest.raises(error):
            await host.instances.update("a", with_devices({"extra": {"type": "none"}, "more": device}))
        assert host.instances.get("a").record == before
        # What was unplugged on the way is in again, with the address that it had.
        assert host.network_host.plugged[-1].host_name == before.config["volatile.extra.host_name"]
        assert [lease.address for lease in host.networks.leases("br7")] == ["10.9.0.2"]

    play(scenario)


def test_a_stopped_instance_gives_back_what_its_nics_had(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "a")
        await host.instances.stop("a", Stop(force=True))
        assert host.networks.leases("lxdpybr0") != []
        await host.instances.update("a", with_devices({"eth0": {"type": "none"}}))
        assert host.network_host.unplugged == []
        assert host.networks.leases("lxdpybr0") == []

    play(scenario)


def test_profiles_change_running_instances(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await network(host)
        await create(host, "a", start=True)
        profile = host.profiles.get("default", "default")
        changed = dataclasses.replace(profile, devices={**profile.devices, "extra": EXTRA})
        await host.profiles.update("default", "default", lambda _: changed)
        assert [link.name for link in host.network_host.plugged] == ["eth7"]
        host.network_host.failure = WorkerError("no")
        again = dataclasses.replace(changed, devices={**changed.devices, "more": {**EXTRA, "name": "eth8"}})
        with pytest.raises(ConflictError, match=r"failed to update .* a: no"):
            await host.profiles.update("default", "default", lambda _: again)
        host.network_host.failure = None
        # What failed is tried again with the next change.
        await host.profiles.update("default", "default", lambda _: again)
        assert [link.name for link in host.network_host.plugged] == ["eth7", "eth8"]

    play(scenario)
