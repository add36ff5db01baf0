"""Disk devices of instances: what storage they need, and what becomes of them while an instance runs."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from lxdpy.drivers.base import DiskSpec
from lxdpy.errors import InvalidRequestError, NotFoundError, WorkerError
from lxdpy.services.instances import InstanceSettings
from lxdpy.services.storage import Settings, VolumeKey
from tests.fakes.drivers import FakeContainer
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]
Device = Mapping[str, str]

DATA = VolumeKey("default", "default", "data")
HOST: Device = {"type": "disk", "source": "/srv", "path": "srv"}
VOLUME: Device = {"type": "disk", "pool": "default", "source": "data", "path": "/data"}


async def give(host: Host, **devices: Device) -> None:
    """Give instance `web` these devices besides its own."""
    await host.instances.update(
        "web",
        lambda current: InstanceSettings(
            config=current.record.config, devices={**_root(current.record.devices), **devices}
        ),
    )


def _root(devices: Mapping[str, Device]) -> dict[str, Device]:
    return {name: device for name, device in devices.items() if device.get("path") == "/"}


def running(host: Host) -> FakeContainer:
    return host.containers.started[-1]


def test_disks_are_shown_at_the_start(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        await create(host, start=False)
        await give(
            host,
            plain=HOST,
            more={**HOST, "path": "/b", "readonly": "true", "shift": "true", "recursive": "1", "required": "false"},
            volume=VOLUME,
        )
        await host.instances.start("web")
        place = str(host.storage.volumes.place(DATA))
        assert set(running(host).disks) == {
            DiskSpec("plain", "/srv", "/srv"),
            DiskSpec("more", "/srv", "/b", readonly=True, recursive=True, shifted=True, required=False),
            DiskSpec("volume", place, "/data", shifted=True),
        }
        assert host.storage.volumes.get("custom", DATA).used_by == ("/1.0/instances/web",)

    play(scenario)


def test_disks_come_and_go_while_it_runs(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        await create(host)
        await give(host, a=HOST)
        assert running(host).disks == [DiskSpec("a", "/srv", "/srv")]
        await give(host, a={**HOST, "readonly": "true"}, b=VOLUME)
        assert [(disk.name, disk.readonly) for disk in running(host).disks] == [("a", True), ("b", False)]
        with pytest.raises(InvalidRequestError, match="runs"):
            await host.storage.volumes.rename(DATA, "other")
        await give(host)
        assert running(host).disks == []
        await host.storage.volumes.rename(DATA, "other")

    play(scenario)


def test_what_can_not_be_shown_changes_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host)
        before = host.instances.get("web").record
        running(host).disk_failure = WorkerError("no")
        with pytest.raises(WorkerError):
            await give(host, a=HOST)
        assert host.instances.get("web").record == before

    play(scenario)


def test_a_change_that_fails_later_takes_the_disks_back(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host)
        await give(host, a=HOST)
        nic = {"type": "nic", "network": "none", "name": "eth9"}
        with pytest.raises(NotFoundError):
            await give(host, b={**HOST, "path": "/b"}, c=nic)
        assert [disk.name for disk in running(host).disks] == ["a"]

    play(scenario)


def test_the_next_daemon_knows_what_is_shown(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host)
        await give(host, a=HOST)
        host.containers.running["web"] = running(host)

    async def second(host: Host) -> None:
        container = host.containers.running["web"]
        await give(host)
        assert container.disks == []

    play(first, second)


def test_storage_that_is_not_there_is_refused(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        with pytest.raises(NotFoundError, match='volume "data"'):
            await give(host, a=VOLUME)
        with pytest.raises(NotFoundError, match='pool "none"'):
            await give(host, a={**VOLUME, "pool": "none"})
        with pytest.raises(InvalidRequestError, match="same path"):
            await give(host, a=HOST, b={**HOST, "path": "/srv/"})
        await host.storage.create_pool("extra", "dir", Settings())
        with pytest.raises(InvalidRequestError, match="all instances lie"):
            await host.instances.update(
                "web", lambda now: InstanceSettings(devices={"root": {"type": "disk", "path": "/", "pool": "extra"}})
            )

    play(scenario)


def test_every_new_instance_has_a_root_disk_and_keeps_it(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "plain", start=False)
        assert host.instances.get("plain").record.devices == {}
        await create(host, start=False, profiles=())
        root = {"type": "disk", "path": "/", "pool": "default"}
        assert host.instances.get("web").record.devices == {"root": root}
        with pytest.raises(InvalidRequestError, match="No root device could be found"):
            await host.instances.update("web", lambda now: InstanceSettings(profiles=()))

    play(scenario)


def test_devices_follow_a_volume_that_is_renamed(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        await create(host, start=False)
        await give(host, a=VOLUME)
        profile = host.profiles.get("default", "default")
        await host.profiles.change_devices("default", "default", {**profile.devices, "p": {**VOLUME, "path": "/p"}})
        await host.storage.volumes.rename(DATA, "other")
        devices = host.instances.get("web").expanded_devices
        assert (devices["a"]["source"], devices["p"]["source"]) == ("other", "other")
        used = host.storage.volumes.get("custom", replace(DATA, name="other")).used_by
        assert used == ("/1.0/instances/web", "/1.0/profiles/default")

    play(scenario)
