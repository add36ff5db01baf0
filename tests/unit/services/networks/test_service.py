from collections.abc import Callable

import pytest

from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, UnsupportedError, WorkerError
from lxdpy.services.instances import Stop
from lxdpy.services.projects import ProjectSettings
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
        with pytest.raises(ConflictError, match='instance "a" has it'):
            await create(host, "b", devices=nic("10.76.9.9"))
        with pytest.raises(ConflictError, match='that of network "lxdpybr0"'):
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


CONFIG = {"ipv4.address": "10.9.0.1/24", "ipv6.address": "none"}


def test_networks_are_made_changed_renamed_and_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        await host.networks.create("br7", "", "of mine", CONFIG)
        with pytest.raises(ConflictError, match="already exists"):
            await host.networks.create("br7", "bridge", "", CONFIG)
        assert host.lease_server.served["br7"].bridge.ipv4_address == "10.9.0.1/24"

    async def second(host: Host) -> None:
        network = host.networks.get("br7")
        assert (network.description, network.config) == ("of mine", CONFIG)
        await host.networks.update("br7", lambda current: ("changed", {**current.config, "bridge.mtu": "1400"}))
        assert host.network_host.bridges[-1].mtu == 1400
        await host.networks.rename("br7", "br8")
        assert [bridge.name for bridge in host.network_host.bridges] == ["br8"]
        assert list(host.lease_server.served) == ["br8"]

    async def third(host: Host) -> None:
        assert [network.name for network in host.networks.all()] == ["br8", "lxdpybr0"]
        await host.networks.delete("br8")
        assert host.network_host.bridges == []
        assert host.lease_server.served == {}
        actions = [action for action, source in host.events if "/networks/" in source]
        assert actions == ["network-deleted"]

    async def fourth(host: Host) -> None:
        assert [network.name for network in host.networks.all()] == ["lxdpybr0"]

    play(first, second, third, fourth)


def test_what_fails_changes_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.lease_server.failure = WorkerError("port 53 is taken")
        with pytest.raises(WorkerError, match="port 53"):
            await host.networks.create("br7", "", "", CONFIG)
        assert host.network_host.bridges == []
        host.lease_server.failure = None
        await host.networks.create("br7", "", "", CONFIG)
        host.lease_server.failure = WorkerError("port 53 is taken")
        with pytest.raises(WorkerError):
            await host.networks.update("br7", lambda current: ("", {"ipv4.address": "10.10.0.1/24"}))
        assert host.networks.get("br7").config == CONFIG
        assert host.network_host.bridges[-1].ipv4_address == "10.9.0.1/24"

    async def later(host: Host) -> None:
        assert host.networks.get("br7").config == CONFIG

    play(scenario, later)


def test_containers_run_without_dhcp_and_names_when_there_is_none(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "a")
        host.lease_server.failure = WorkerError("port 53 is taken")
        nic = await host.networks.attach("a", "eth0", {"network": "lxdpybr0"}, "00:16:3e:00:00:01")
        assert (nic.ipv4, nic.resolver) == ("10.76.0.2", None)

    play(scenario)


def test_networks_that_overlap(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(ConflictError, match=r'overlaps 10\.76\.0\.0/16 of network "lxdpybr0"'):
            await host.networks.create("br7", "", "", {"ipv4.address": "10.76.9.1/24"})
        await host.networks.create("br7", "", "", CONFIG)
        with pytest.raises(ConflictError, match="overlaps"):
            await host.networks.update("lxdpybr0", lambda current: ("", {"ipv4.address": "10.9.0.1/25"}))
        with pytest.raises(ConflictError, match="interface of that name"):
            await host.networks.create("br0", "", "", {"ipv4.address": "10.8.0.1/24"})
        with pytest.raises(UnsupportedError, match="macvlan"):
            await host.networks.create("br9", "macvlan", "", {})

    play(scenario)


def test_the_configured_network_is_reset_when_it_is_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        await host.networks.update("lxdpybr0", lambda current: ("mine", {"ipv4.address": "10.99.0.1/24"}))

    async def second(host: Host) -> None:
        assert host.networks.get("lxdpybr0").config == {"ipv4.address": "10.99.0.1/24"}
        with pytest.raises(InvalidRequestError, match="configuration file"):
            await host.networks.rename("lxdpybr0", "br7")
        await host.networks.delete("lxdpybr0")
        assert host.networks.get("lxdpybr0").config["ipv4.address"] == "10.76.0.1/16"

    async def third(host: Host) -> None:
        assert host.networks.get("lxdpybr0").description == ""

    play(first, second, third)


def test_leases_follow_the_network(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "a")
        await host.networks.create("br7", "", "", {**CONFIG, "ipv4.dhcp.ranges": "10.9.0.7-10.9.0.8"})
        nic = await host.networks.attach("a", "eth0", {"network": "br7"}, "00:16:3e:00:00:01")
        assert nic.ipv4 == "10.9.0.7"
        assert host.networks.leases("lxdpybr0") == []
        assert host.lease_server.hosts["lxdpybr0"] == {}
        assert [entry.name for entry in host.lease_server.hosts["br7"].values()] == ["a"]
        await host.networks.update("br7", lambda current: ("", {"ipv4.address": "10.10.0.1/24"}))
        again = await host.networks.attach("a", "eth0", {"network": "br7"}, "00:16:3e:00:00:01")
        assert again.ipv4 == "10.10.0.2"
        told = await host.networks.attach("a", "eth0", {"network": "br7"}, "00:16:3e:00:00:01", asks=True)
        assert (told.addresses, told.gateways) == ((), ())
        assert told.resolver is not None
        assert (told.resolver.address, told.resolver.domains) == ("10.10.0.1", ("lxd",))
        await host.networks.detach("a", "eth0")
        assert host.networks.leases("br7") == []
        assert host.lease_server.hosts["br7"] == {}

    play(scenario)


def test_a_range_that_is_used_up(play: Play) -> None:
    async def scenario(host: Host) -> None:
        for name in ("a", "b"):
            await create(host, name)
        await host.networks.create("br7", "", "", {**CONFIG, "ipv4.dhcp.ranges": "10.9.0.1-10.9.0.2"})
        await host.networks.attach("a", "eth0", {"network": "br7"}, "00:16:3e:00:00:01")
        with pytest.raises(ConflictError, match="no free address"):
            await host.networks.attach("b", "eth0", {"network": "br7"}, "00:16:3e:00:00:02")
        pinned = {"network": "br7", "ipv4.address": "10.9.0.99"}
        assert (await host.networks.attach("b", "eth0", pinned, "00:16:3e:00:00:02")).ipv4 == "10.9.0.99"

    play(scenario)


def test_nics_on_no_managed_network(play: Play) -> None:
    async def scenario(host: Host) -> None:
        hwaddr = "00:16:3e:00:00:01"
        bridged = await host.networks.attach("a", "eth0", {"nictype": "bridged", "parent": "br0"}, hwaddr)
        assert (bridged.kind, bridged.parent, bridged.addresses) == ("veth", "br0", ())
        macvlan = await host.networks.attach(
            "a", "eth0", {"nictype": "macvlan", "parent": "eth0", "mtu": "1300"}, hwaddr
        )
        assert (macvlan.kind, macvlan.parent, macvlan.mtu) == ("macvlan", "eth0", 1300)
        assert (await host.networks.attach("a", "eth0", {"nictype": "p2p"}, hwaddr)).parent == ""
        with pytest.raises(NotFoundError, match='no interface "br9"'):
            await host.networks.attach("a", "eth0", {"nictype": "bridged", "parent": "br9"}, hwaddr)
        with pytest.raises(InvalidRequestError, match="no bridge"):
            await host.networks.attach("a", "eth0", {"nictype": "bridged", "parent": "eth0"}, hwaddr)
        pinned = {"nictype": "bridged", "parent": "br0", "ipv4.address": "10.0.0.9"}
        with pytest.raises(InvalidRequestError, match="no managed network"):
            await host.networks.attach("a", "eth0", pinned, hwaddr)

    play(scenario)


def test_an_ipv6_address_of_its_own(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.networks.create("br7", "", "", {"ipv4.address": "none", "ipv6.address": "fd42::1/64"})
        wanted = {"network": "br7", "ipv6.address": "fd42::9"}
        nic = await host.networks.attach("a", "eth0", wanted, "00:16:3e:00:00:01")
        assert [str(address) for address in nic.addresses] == ["fd42::9/64"]
        with pytest.raises(UnsupportedError, match="DHCPv6"):
            await host.networks.attach("a", "eth0", wanted, "00:16:3e:00:00:01", asks=True)
        other = {"network": "br7", "ipv6.address": "fd43::9"}
        with pytest.raises(InvalidRequestError, match="no such address"):
            await host.networks.attach("a", "eth0", other, "00:16:3e:00:00:01")

    play(scenario)


def test_two_projects_have_an_instance_of_one_name(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings(config={"features.profiles": "false"}))
        await create(host, "web")
        await create(host, "p1_web")
        names = {served.address: served.name for served in host.lease_server.hosts["lxdpybr0"].values()}
        assert names == {"10.76.0.2": "web", "10.76.0.3": "web.p1"}
        texts = [
            (host.config.state_dir / "instances" / name / "network/resolv.conf").read_text().splitlines()[0]
            for name in ("web", "p1_web")
        ]
        assert texts == ["search lxd", "search p1.lxd lxd"]
        await host.instances.stop("p1_web", Stop(force=True))
        await host.instances.rename("p1_web", "db")
        assert host.lease_server.hosts["lxdpybr0"]["10.76.0.3"].name == "db"

    play(scenario)
