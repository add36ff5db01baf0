"""Requests about different things that meet: what one is about to need, another takes away."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import pytest

from lxdpy.db import instances as table
from lxdpy.drivers.base import Compression
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, NotFoundError
from lxdpy.progress import NoProgress
from lxdpy.services.images import ImageDetails, ImageSource
from lxdpy.services.instances import (
    InstanceSettings,
    InstanceStatus,
    NewBackup,
    NewImport,
    NewInstance,
    ProfileSettings,
)
from lxdpy.services.projects import ProjectSettings
from lxdpy.services.storage import Settings, VolumeKey
from tests.fakes.drivers import FakeIncoming, image_documents
from tests.unit.services.conftest import Host
from tests.unit.services.instances import test_systems as systems
from tests.unit.services.instances.test_service import APP, create

Play = Callable[..., None]

DATA = VolumeKey("default", "default", "data")
VOLUME = {"type": "disk", "pool": "default", "source": "data", "path": "/data"}


def test_a_project_stays_while_an_image_comes_to_it(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["docker.io/library/app:latest"] = image_documents()
        await host.projects.create("p1", ProjectSettings())
        found = await host.images.find(ImageSource(alias="app", protocol="oci", project="p1"))
        pull = asyncio.create_task(host.images.fetch(found, ImageDetails(project="p1"), NoProgress()))
        await asyncio.sleep(0)
        for attempt in (
            host.projects.delete("p1"),
            host.projects.rename("p1", "p2"),
            host.projects.update("p1", lambda _: ProjectSettings(config={"features.images": "false"})),
        ):
            with pytest.raises(InvalidRequestError):
                await attempt
        image = await pull
        assert [each.fingerprint for each in host.images.all("p1")] == [image.fingerprint]
        await host.images.delete(image.fingerprint, "p1")
        await host.projects.delete("p1")
        # As when it was deleted while a body came in.
        with pytest.raises(NotFoundError):
            await host.images.fetch(found, ImageDetails(project="p1"), NoProgress())
        assert host.images.all() == []

    play(scenario)


def test_a_project_stays_while_a_volume_or_a_profile_comes_to_it(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings())
        key = VolumeKey("default", "p1", "data")
        for job in (host.storage.volumes.create(key, Settings()), host.profiles.create("p1", "a", ProfileSettings())):
            making = asyncio.create_task(job)
            while not host.projects._filling["p1"]:
                await asyncio.sleep(0)
            with pytest.raises(InvalidRequestError):
                await host.projects.delete("p1")
            await making
        await host.storage.volumes.delete(key)
        await host.profiles.delete("p1", "a")
        await host.projects.delete("p1")
        with pytest.raises(NotFoundError):
            await host.storage.volumes.create(key, Settings())

    play(scenario)


def test_an_image_that_was_deleted_since_it_was_found(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        await host.instances.delete("web")
        found = await host.images.find(ImageSource(alias="app:latest"))
        await host.images.delete(found.fingerprint)
        new = host.instances.reserve(NewInstance("web", APP, InstanceSettings()))
        with pytest.raises(NotFoundError):
            await host.instances.create(new, found, NoProgress())
        assert host.instances.names() == []

    play(scenario)


def test_a_create_that_is_cancelled_when_its_instance_runs(play: Play) -> None:
    async def scenario(host: Host) -> None:
        job = asyncio.create_task(systems.create(host))
        while not (host.containers.started and host.instances.get("web").status is InstanceStatus.RUNNING):
            await asyncio.sleep(0)
        # What it was made for is noted in the database right now.
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert host.instances.names() == []

    play(scenario)


def test_a_profile_stays_while_a_backup_becomes_an_instance_with_it(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.profiles.create("default", "a", ProfileSettings())
        await create(host, start=False, profiles=("default", "a"))
        backups = host.instances.backups
        await backups.create(NewBackup("web", "b", 0.0, False, Compression("gzip")), NoProgress())
        file, _ = await backups.open("web", "b")
        incoming = FakeIncoming()
        with file:
            await incoming.write(file.read())
        files = await incoming.finish()
        await host.instances.delete("web")
        job = asyncio.create_task(host.instances.import_backup(NewImport("default", "web", files)))
        refused = False
        while not job.done():
            await asyncio.sleep(0)
            if "web" in host.instances._names.taken():
                with pytest.raises((BusyError, InvalidRequestError)) as refusal:
                    await host.profiles.delete("default", "a")
                refused |= refusal.type is BusyError
        assert refused
        await job
        # Or no instance could be listed any more.
        assert host.instances.get("web").record.profiles == ("default", "a")

    play(scenario)


def test_a_profile_does_not_wait_for_instances_that_do_not_run(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        # As while it is packed.
        async with host.instances._roster.held("web"):
            async with asyncio.timeout(10):
                await host.profiles.update(
                    "default",
                    "default",
                    lambda old: ProfileSettings(config={"limits.processes": "7"}, devices=old.devices),
                )
        await host.instances.start("web")
        assert host.containers.started[-1].spec.limits.processes == 7

    play(scenario)


@pytest.mark.parametrize("head_start", range(8))
def test_a_volume_of_a_profile_is_renamed_while_an_instance_starts(play: Play, head_start: int) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        await create(host, start=False)
        await host.profiles.update(
            "default", "default", lambda old: ProfileSettings(devices={**old.devices, "data": VOLUME})
        )
        rename = asyncio.create_task(host.storage.volumes.rename(DATA, "other"))
        for _ in range(head_start):
            await asyncio.sleep(0)
        start = asyncio.create_task(host.instances.start("web"))
        async with asyncio.timeout(10):
            # A running instance's volume keeps its name; but they don't wait for one another.
            renamed, started = await asyncio.gather(rename, start, return_exceptions=True)
        assert renamed is None or isinstance(renamed, InvalidRequestError)
        assert started is None
        name = "data" if renamed else "other"
        assert host.instances.get("web").expanded_devices["data"]["source"] == name
        place = str(host.storage.volumes.place(VolumeKey("default", "default", name)))
        assert [disk.source for disk in host.containers.started[-1].disks] == [place]

    play(scenario)


def test_names_of_backups_in_memory_are_those_in_the_database(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        backups = host.instances.backups
        for name in ("a", "b"):
            await backups.create(NewBackup("web", name, 0.0, False, Compression("gzip")), NoProgress())
        done = await asyncio.gather(
            backups.rename("web", "a", "c"), backups.rename("web", "b", "c"), return_exceptions=True
        )
        assert [type(each) for each in done] == [type(None), ConflictError]
        await asyncio.gather(host.instances.rename("web", "db"), backups.rename("web", "c", "d"))
        known = backups.all("db")
        assert [each.name for each in known] == ["d", "b"]
        job = asyncio.create_task(host.instances.rename("db", "web"))
        while "web" not in host.instances.names():
            await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert [each.name for each in backups.all("web")] == ["d", "b"]
        await backups.load()
        assert [each.name for each in backups.all("web")] == ["d", "b"]
        await asyncio.gather(backups.delete("web", "b"), host.instances.delete("web"), return_exceptions=False)
        assert list((host.config.state_dir / "backups").iterdir()) == []

    play(scenario)


def test_what_is_deleted_while_snapshots_are_due(play: Play) -> None:
    async def scenario(host: Host) -> None:
        due = {"snapshots.schedule": "30 6 * * *"}
        await create(host, "a", config=due)
        await host.profiles.create("default", "gone", ProfileSettings())
        await create(host, "b", start=False, config=due, profiles=("default", "gone"))
        await create(host, "c", config=due)
        host.store.copying.clear()
        taking = asyncio.create_task(host.instances.snapshots.take_due(datetime(2024, 1, 1, 6, 30)))
        await asyncio.sleep(0.05)
        await host.instances.delete("b")
        await host.profiles.delete("default", "gone")
        host.store.copying.set()
        await taking
        assert [len(host.instances.snapshots.all(name)) for name in ("a", "c")] == [1, 1]

    play(scenario)


def test_a_volume_is_not_restored_while_it_is_copied(play: Play) -> None:
    async def scenario(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings())
        (volumes.place(DATA) / "file").write_text("")
        await volumes.snapshots.take(DATA, "s", "")
        with volumes._shelf.get(DATA).reading():
            with pytest.raises(BusyError):
                await volumes.restore(DATA, "s")
            assert (volumes.place(DATA) / "file").exists()
        await volumes.restore(DATA, "s")

    play(scenario)


@pytest.mark.parametrize("head_start", range(0, 12, 2))
def test_a_profile_is_renamed_while_instances_take_it_on(play: Play, head_start: int) -> None:
    async def scenario(host: Host) -> None:
        await host.profiles.create("default", "a", ProfileSettings())
        await create(host, "old", start=False, profiles=("default", "a"))
        await create(host, "other", start=False)
        rename = asyncio.create_task(host.profiles.rename("default", "a", "b"))
        for _ in range(head_start):
            await asyncio.sleep(0)
        settings = InstanceSettings(profiles=("default", "a"))
        await asyncio.gather(
            create(host, "new", start=False, profiles=("default", "a")),
            host.instances.update("other", lambda current: settings),
            rename,
            return_exceptions=True,
        )
        # Or no instance could be listed any more.
        for name in host.instances.names():
            for profile in host.instances.get(name).record.profiles:
                host.profiles.get("default", profile)
        await host.profiles.load()
        for name in host.instances.names():
            for profile in host.instances.get(name).record.profiles:
                host.profiles.get("default", profile)

    play(scenario)


@pytest.mark.parametrize("head_start", range(0, 12, 2))
def test_a_row_of_a_deleted_instance_does_not_come_back(play: Play, head_start: int) -> None:
    async def scenario(host: Host) -> None:
        await host.profiles.create("default", "a", ProfileSettings())
        await host.storage.volumes.create(DATA, Settings())
        for name in ("one", "two"):
            await create(host, name, start=False, profiles=("default", "a"), devices={"data": VOLUME})
        gone = host.instances._roster.get("two")
        # As while it is noted that it has ended.
        await gone.changing.acquire()
        jobs = [
            asyncio.create_task(host.profiles.rename("default", "a", "b")),
            asyncio.create_task(host.storage.volumes.rename(DATA, "other")),
        ]
        for _ in range(head_start):
            await asyncio.sleep(0)
        jobs.append(asyncio.create_task(host.instances.delete("two")))
        await asyncio.sleep(0.01)
        gone.changing.release()
        await asyncio.gather(*jobs)
        with pytest.raises(NotFoundError):
            await host.instances._roster.set_power(gone, "RUNNING")
        assert [row.name for row in await host.database.run(table.load)] == ["one"]

    play(scenario)
