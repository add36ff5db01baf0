"""Backups of custom volumes: made, kept, expired, and volumes made of them."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from lxdpy.drivers.base import Compression, ImageFiles
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, LayerError, NotFoundError
from lxdpy.progress import NoProgress
from lxdpy.services.storage import NewVolumeBackup, Settings, User, VolumeKey
from tests.fakes.drivers import FakeIncoming
from tests.unit.services.conftest import Host

Play = Callable[..., None]
DATA = VolumeKey("default", "default", "data")


async def back_up(host: Host, name: str = "b", *, expires_at: float = 0.0) -> None:
    new = NewVolumeBackup(DATA, name, expires_at, False, Compression("gzip"))
    await host.storage.backups.create(new, NoProgress())


def files(host: Host) -> list[str]:
    return os.listdir(host.config.state_dir / "volume-backups")


async def file_of(document: dict[str, Any]) -> ImageFiles:
    incoming = FakeIncoming()
    await incoming.write(json.dumps(document).encode())
    return await incoming.finish()


def test_a_backup_outlives_the_daemon_and_goes_with_its_volume(play: Play) -> None:
    async def first(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        await back_up(host)
        with pytest.raises(ConflictError):
            await back_up(host)
        await back_up(host, "old", expires_at=1.0)
        (host.config.state_dir / "volume-backups/lost").write_text("")

    async def second(host: Host) -> None:
        while len(host.storage.backups.all(DATA)) > 1:
            await asyncio.sleep(0.01)
        assert len(files(host)) == 1
        await host.storage.volumes.rename(DATA, "other")
        other = VolumeKey("default", "default", "other")
        assert host.storage.backups.get(other, "b").volume == "other"
        await host.storage.volumes.delete(other)
        assert files(host) == []

    play(first, second)


def test_what_fails_leaves_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        host.store.failure = LayerError("no")
        with pytest.raises(LayerError):
            await back_up(host)
        assert (files(host), host.storage.backups.all(DATA)) == ([], [])
        with pytest.raises(InvalidRequestError):
            await back_up(host, "a/b")

    play(scenario)


def test_of_a_volume_that_is_in_use_a_copy_is_packed(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.volumes.create(DATA, Settings())
        device = {"type": "disk", "pool": "default", "source": "data", "path": "/data"}
        host.storage.add_users(lambda: [User("/1.0/instances/web", "default", {"d": device}, running=True)])
        host.trees.copying.clear()
        job = asyncio.create_task(back_up(host))
        custom = host.config.state_dir / "storage-pools/default/custom"
        while len(os.listdir(custom)) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await host.storage.volumes.delete(DATA)
        host.trees.copying.set()
        await job
        await host.storage.close()
        assert len(os.listdir(custom)) == 1

    play(scenario)


def test_an_index_says_what_the_volume_is(play: Play) -> None:
    async def scenario(host: Host) -> None:
        index = {
            "name": "v",
            "config": {
                "volume": {"name": "v", "description": "mine", "config": {"user.a": True, "volatile.idmap.last": "[]"}},
                "volume_snapshots": [{"name": "v/s0", "description": "first"}],
            },
        }
        parts: dict[str, Any] = {"volume": {}, "volume-snapshots/s0": {}}
        document = {"index": json.dumps(index), "parts": parts}
        await host.storage.backups.restore("default", "default", "", await file_of(document))
        key = VolumeKey("default", "default", "v")
        assert host.storage.volumes.settings(key) == Settings("mine", {"user.a": "true"})
        (snapshot,) = host.storage.volumes.snapshots.all(key)
        assert (snapshot.snapshot, snapshot.settings.description) == ("s0", "first")
        with pytest.raises(ConflictError):
            await host.storage.backups.restore("default", "default", "", await file_of(document))
        with pytest.raises(NotFoundError):
            await host.storage.backups.restore("none", "default", "x", await file_of(document))
        del parts["volume-snapshots/s0"]
        for wrong in ({"index": document["index"], "parts": parts}, {"index": "- a", "parts": {"volume": {}}}):
            with pytest.raises(InvalidRequestError):
                await host.storage.backups.restore("default", "default", "x", await file_of(wrong))
        assert [volume.name for volume in host.storage.volumes.all("default") if volume.kind == "custom"] == ["v", "v"]

    play(scenario)
