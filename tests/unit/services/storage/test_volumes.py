"""Custom volumes: made, copied, renamed, restored and deleted; what uses them; what a dead daemon leaves."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lxdpy.errors import (
    BusyError,
    ConflictError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    UnsupportedError,
)
from lxdpy.services.storage import Settings, User, VolumeKey, VolumeSource
from tests.unit.services.conftest import Host

Play = Callable[..., None]

DATA = VolumeKey("default", "default", "data")
OTHER = VolumeKey("default", "default", "other")


def trees(host: Host) -> list[str]:
    """The directories of volumes and snapshots that are there."""
    root = host.config.state_dir / "storage-pools"
    return sorted(path.name.rpartition("_")[0] for path in root.glob("*/custom*/*"))


async def settled(host: Host) -> None:
    """What goes in the background is gone."""
    await host.storage.close()


def files(place: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in place.iterdir()}


def test_a_volume_outlives_the_daemon(play: Play) -> None:
    async def first(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings("mine", {"user.a": "b", "user.empty": ""}))
        (host.storage.volumes.place(DATA) / "file").write_text("kept")
        with pytest.raises(ConflictError, match="already exists"):
            await host.storage.volumes.create(DATA, Settings())

    async def second(host: Host) -> None:
        volume = host.storage.volumes.get("custom", DATA)
        assert volume.settings == Settings("mine", {"user.a": "b"})
        assert files(host.storage.volumes.place(DATA)) == {"file": "kept"}
        assert "/1.0/storage-pools/default/volumes/custom/data" in host.storage.pool("default").used_by
        await host.storage.volumes.delete(DATA)
        await settled(host)
        assert trees(host) == []

    async def third(host: Host) -> None:
        with pytest.raises(NotFoundError):
            host.storage.volumes.get("custom", DATA)

    play(first, second, third)


def test_what_no_row_names_is_swept(play: Play) -> None:
    async def first(host: Host) -> None:
        await host.storage.create_pool("extra", "dir", Settings())
        for pool in ("default", "extra"):
            await host.storage.volumes.create(VolumeKey(pool, "default", "data"), Settings())
            for part in ("custom", "custom-snapshots"):
                (host.config.state_dir / f"storage-pools/{pool}/{part}/default_lost_1").mkdir(parents=True)
        await host.storage.volumes.snapshots.take(DATA, "s", "")

    async def second(host: Host) -> None:
        assert trees(host) == ["default_data", "default_data", "default_data_s"]

    play(first, second)


def test_a_copy_is_a_volume_of_its_own_with_its_snapshots(play: Play) -> None:
    async def scenario(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings())
        (volumes.place(DATA) / "file").write_text("old")
        await volumes.snapshots.take(DATA, "before", "as it was")
        (volumes.place(DATA) / "file").write_text("new")
        await volumes.copy(OTHER, VolumeSource(DATA), Settings("copied"))
        assert files(volumes.place(OTHER)) == {"file": "new"}
        assert [each.snapshot for each in volumes.snapshots.all(OTHER)] == ["before"]
        plain = VolumeKey("default", "default", "plain")
        await volumes.copy(plain, VolumeSource(DATA, with_snapshots=False), Settings())
        assert volumes.snapshots.all(plain) == []
        older = VolumeKey("default", "default", "older")
        await volumes.copy(older, VolumeSource(DATA, "before"), Settings())
        assert files(volumes.place(older)) == {"file": "old"}
        for source in (VolumeSource(DATA, "none"), VolumeSource(VolumeKey("default", "default", "none"))):
            with pytest.raises(NotFoundError):
                await volumes.copy(VolumeKey("default", "default", "x"), source, Settings())

    play(scenario)


def test_a_copy_that_fails_or_is_cancelled_leaves_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings())
        await volumes.snapshots.take(DATA, "s", "")
        before = trees(host)
        host.trees.failure = NoSpaceError("full")
        for job in (volumes.copy(OTHER, VolumeSource(DATA), Settings()), volumes.snapshots.take(DATA, "t", "")):
            with pytest.raises(NoSpaceError):
                await job
        with pytest.raises(NoSpaceError):
            await volumes.restore(DATA, "s")
        host.trees.failure = None
        host.trees.copying.clear()
        jobs = [
            asyncio.create_task(volumes.copy(OTHER, VolumeSource(DATA), Settings())),
            asyncio.create_task(volumes.snapshots.take(DATA, "t", "")),
            asyncio.create_task(volumes.restore(DATA, "s")),
        ]
        await asyncio.sleep(0.05)
        # Nothing goes from under a copy, and its name is taken already.
        with pytest.raises(BusyError):
            await volumes.delete(DATA)
        with pytest.raises(BusyError):
            await volumes.snapshots.delete(DATA, "s")
        with pytest.raises(ConflictError):
            await volumes.create(OTHER, Settings())
        for task in jobs:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        host.trees.copying.set()
        await settled(host)
        assert trees(host) == before
        await volumes.create(OTHER, Settings())

    play(scenario)


def test_a_snapshots_files_come_back(play: Play) -> None:
    async def first(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings("mine"))
        (volumes.place(DATA) / "file").write_text("old")
        await volumes.snapshots.take(DATA, volumes.snapshots.next_name(DATA), "")
        assert volumes.snapshots.get(DATA, "snap0").settings.description == "mine"
        assert volumes.snapshots.next_name(DATA) == "snap1"
        (volumes.place(DATA) / "file").write_text("new")
        (volumes.place(DATA) / "more").write_text("new")
        await volumes.restore(DATA, "snap0")
        with pytest.raises(NotFoundError):
            await volumes.restore(DATA, "snap1")

    async def second(host: Host) -> None:
        volumes = host.storage.volumes
        assert files(volumes.place(DATA)) == {"file": "old"}
        await volumes.snapshots.rename(DATA, "snap0", "first")
        await volumes.snapshots.update(DATA, "first", lambda now: Settings("the first"))
        with pytest.raises(ConflictError):
            await volumes.snapshots.take(DATA, "first", "")

    async def third(host: Host) -> None:
        volumes = host.storage.volumes
        assert volumes.snapshots.get(DATA, "first").settings.description == "the first"
        await volumes.restore(DATA, "first")
        await volumes.snapshots.delete(DATA, "first")
        await settled(host)
        assert trees(host) == ["default_data"]

    play(first, second, third)


def test_a_snapshot_that_expires_is_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings(config={"snapshots.expiry": "1d", "snapshots.pattern": "s-%d"}))
        await volumes.snapshots.take(DATA, volumes.snapshots.next_name(DATA), "")
        (taken,) = volumes.snapshots.all(DATA)
        assert (taken.snapshot, round(taken.expires_at - taken.created_at)) == ("s-0", 86400)
        await volumes.snapshots.take(DATA, "old", "", 1.0)
        await volumes.snapshots.take(DATA, "forever", "", 0.0)
        await volumes.snapshots.update(DATA, "forever", lambda now: now)

    async def second(host: Host) -> None:
        volumes = host.storage.volumes
        while len(volumes.snapshots.all(DATA)) > 2:
            await asyncio.sleep(0.01)
        assert {each.snapshot: each.expires_at > 0 for each in volumes.snapshots.all(DATA)} == {
            "s-0": True,
            "forever": False,
        }

    play(first, second)


def test_a_new_name_is_the_rows_alone(play: Play) -> None:
    async def first(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings())
        await volumes.snapshots.take(DATA, "s", "")
        place = volumes.place(DATA)
        await volumes.rename(DATA, "other")
        assert volumes.place(OTHER) == place
        await volumes.create(DATA, Settings())
        with pytest.raises(ConflictError):
            await volumes.rename(DATA, "other")

    async def second(host: Host) -> None:
        assert [each.snapshot for each in host.storage.volumes.snapshots.all(OTHER)] == ["s"]
        assert host.storage.volumes.snapshots.all(DATA) == []

    play(first, second)


def test_a_volume_moves_to_another_pool(play: Play) -> None:
    async def scenario(host: Host) -> None:
        volumes = host.storage.volumes
        await host.storage.create_pool("extra", "dir", Settings())
        await volumes.create(DATA, Settings(config={"user.a": "b"}))
        (volumes.place(DATA) / "file").write_text("kept")
        there = VolumeKey("extra", "default", "data")
        await volumes.move(there, VolumeSource(DATA))
        assert files(volumes.place(there)) == {"file": "kept"}
        assert volumes.settings(there).config == {"user.a": "b"}
        with pytest.raises(NotFoundError):
            volumes.get("custom", DATA)
        with pytest.raises(InvalidRequestError, match="in use"):
            await host.storage.delete_pool("extra")

    play(scenario)


def test_what_is_used_stays_and_what_runs_keeps_its_files(play: Play) -> None:
    async def scenario(host: Host) -> None:
        volumes = host.storage.volumes
        await volumes.create(DATA, Settings())
        await volumes.snapshots.take(DATA, "s", "")
        device = {"type": "disk", "pool": "default", "source": "data", "path": "/data"}
        running = True
        host.storage.add_users(lambda: [User("/1.0/instances/web", "default", {"d": device}, running=running)])
        assert volumes.get("custom", DATA).used_by == ("/1.0/instances/web",)
        with pytest.raises(InvalidRequestError, match="still in use"):
            await volumes.delete(DATA)
        for job in (
            volumes.rename(DATA, "other"),
            volumes.restore(DATA, "s"),
            volumes.update(DATA, lambda now: Settings(config={"security.unmapped": "true"})),
        ):
            with pytest.raises(InvalidRequestError, match="runs"):
                await job
        await volumes.update(DATA, lambda now: Settings("a text", {"user.a": "b"}))
        running = False
        await volumes.restore(DATA, "s")

    play(scenario)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"size": "1GiB"}, UnsupportedError),
        ({"snapshots.schedule": "@daily"}, UnsupportedError),
        ({"snapshots.expiry": "soon"}, InvalidRequestError),
        ({"bogus": "1"}, InvalidRequestError),
        ({"security.shifted": "maybe"}, InvalidRequestError),
        ({"security.shifted": "true", "security.unmapped": "true"}, InvalidRequestError),
    ],
)
def test_what_a_volume_can_not_be_is_refused(play: Play, config: dict[str, str], kind: type[Exception]) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(kind):
            await host.storage.volumes.create(DATA, Settings(config=config))
        with pytest.raises(NotFoundError):
            await host.storage.volumes.create(VolumeKey("none", "default", "x"), Settings())
        with pytest.raises(InvalidRequestError):
            await host.storage.volumes.create(VolumeKey("default", "default", "a/b"), Settings())
        assert trees(host) == []

    play(scenario)


def test_long_names_make_directories_that_can_be(play: Play) -> None:
    async def scenario(host: Host) -> None:
        key = VolumeKey("default", "default", "é" * 75)
        await host.storage.volumes.create(key, Settings())
        await host.storage.volumes.snapshots.take(key, "ß" * 75, "")
        for path in (host.config.state_dir / "storage-pools").glob("*/custom*/*"):
            assert len(os.fsencode(path.name)) <= 255

    play(scenario)
