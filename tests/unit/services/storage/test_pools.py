"""Pools: made, changed, deleted, and what of them survives the daemon."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, UnsupportedError
from lxdpy.services.storage import Settings
from tests.unit.services.conftest import Host

Play = Callable[..., None]
Scenario = Callable[[Host], Awaitable[None]]


def test_the_default_pool_is_there_from_the_first_start_and_stays(play: Play) -> None:
    async def scenario(host: Host) -> None:
        (pool,) = host.storage.pools()
        assert (pool.record.name, pool.record.driver, pool.source) == ("default", "overlay", host.config.state_dir)
        assert pool.available
        assert pool.used_by == ("/1.0/profiles/default",)
        with pytest.raises(InvalidRequestError, match="holds all instances"):
            await host.storage.delete_pool("default")

    play(scenario, scenario)


def test_a_pool_is_made_found_by_the_next_daemon_and_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        await host.storage.create_pool("fast", "dir", Settings("an extra one", {"user.a": "b"}))
        assert (host.config.state_dir / "storage-pools/fast").is_dir()
        with pytest.raises(ConflictError):
            await host.storage.create_pool("fast", "dir", Settings())

    async def second(host: Host) -> None:
        pool = host.storage.pool("fast")
        assert (pool.record.description, pool.record.config) == ("an extra one", {"user.a": "b"})
        assert pool.source == host.config.state_dir / "storage-pools/fast"
        # A daemon that was killed left this.
        (host.config.state_dir / "storage-pools/lost").mkdir()
        await host.storage.delete_pool("fast")
        assert not (host.config.state_dir / "storage-pools/fast").exists()
        assert host.events[-1] == ("storage-pool-deleted", "/1.0/storage-pools/fast")

    async def third(host: Host) -> None:
        assert [pool.record.name for pool in host.storage.pools()] == ["default"]
        assert os.listdir(host.config.state_dir / "storage-pools") == ["default"]
        with pytest.raises(NotFoundError):
            host.storage.pool("fast")

    play(first, second, third)


def test_a_source_is_an_empty_directory_of_the_administrators_own(play: Play) -> None:
    async def scenario(host: Host) -> None:
        place = host.config.state_dir.parent / f"{host.config.state_dir.name}-admin"
        source, full = place / "pool", place / "full"
        for directory in (source, full / "something"):
            directory.mkdir(parents=True)
        (place / "link").symlink_to(source)
        for wrong in ("pool", str(full), str(place / "none"), str(host.config.state_dir / "instances")):
            with pytest.raises(InvalidRequestError):
                await host.storage.create_pool("disk", "dir", Settings(config={"source": wrong}))
        await host.storage.create_pool("disk", "dir", Settings(config={"source": str(place / "link")}))
        assert host.storage.pool("disk").source == source
        with pytest.raises(InvalidRequestError, match="within"):
            await host.storage.create_pool("other", "dir", Settings(config={"source": str(source)}))
        source.rmdir()
        assert not host.storage.pool("disk").available
        source.mkdir()
        await host.storage.delete_pool("disk")
        assert source.is_dir()

    play(scenario)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a\nb", "x" * 200])
def test_names_that_are_no_directories_names_are_refused(play: Play, name: str) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError):
            await host.storage.create_pool(name, "dir", Settings())

    play(scenario)


def test_what_is_not_offered_is_refused(play: Play) -> None:
    async def scenario(host: Host) -> None:
        for driver in ("zfs", "btrfs", "lvm", "overlay", ""):
            with pytest.raises(InvalidRequestError, match="not available"):
                await host.storage.create_pool("p", driver, Settings())
        for key in ("volume.size", "rsync.bwlimit"):
            with pytest.raises(UnsupportedError, match=key):
                await host.storage.create_pool("p", "dir", Settings(config={key: "1"}))
        with pytest.raises(InvalidRequestError, match="bogus"):
            await host.storage.create_pool("p", "dir", Settings(config={"bogus": "1"}))

    play(scenario)


def test_an_update_replaces_all_but_the_source(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.storage.create_pool("p", "dir", Settings(config={"user.a": "1"}))
        source = str(host.storage.pool("p").source)
        await host.storage.update_pool("p", lambda pool: Settings("new", {"source": source, "user.b": "2"}))
        record = host.storage.pool("p").record
        assert (record.description, record.config) == ("new", {"user.b": "2"})
        with pytest.raises(InvalidRequestError, match="source"):
            await host.storage.update_pool("p", lambda pool: Settings(config={"source": "/elsewhere"}))

    play(scenario)


def test_resources_are_those_of_the_file_system(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        resources = await host.storage.resources("default")
        found = os.statvfs(tmp_path)
        assert resources.space_total == found.f_blocks * found.f_frsize
        assert 0 < resources.space_used < resources.space_total
        assert resources.inodes_total == found.f_files

    play(scenario)
