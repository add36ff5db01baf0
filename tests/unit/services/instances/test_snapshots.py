"""Snapshots and copies on real directories: what is where, and what a daemon's death leaves to the next one."""

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from lxdpy.db import instances as table
from lxdpy.db import snapshots as snapshot_table
from lxdpy.drivers.base import upper_layer_id
from lxdpy.errors import ConflictError, InvalidRequestError, NoSpaceError, NotFoundError
from lxdpy.services.instances import InstanceStatus, NewCopy, Stop
from lxdpy.services.instances.profiles import ProfileSettings
from lxdpy.services.projects.service import ProjectSettings
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]


def upper(host: Host, name: str) -> Path:
    record = host.instances.get(name).record
    return host.config.state_dir / "instances" / name / record.rw / "upper"


def rws(host: Host, name: str) -> list[str]:
    return sorted(path.name for path in (host.config.state_dir / "instances" / name).glob("rw*"))


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.001)


def test_of_a_stopped_instance(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        (upper(host, "web") / "data").write_text("one")
        old = host.instances.get("web").record
        assert await host.instances.snapshots.create("web") == "snap0"
        new = host.instances.get("web").record
        layer = upper_layer_id(old.rw)
        assert new.layers == (*old.layers, layer)
        assert (host.config.state_dir / "layers" / layer / "data").read_text() == "one"
        assert list(upper(host, "web").iterdir()) == []
        snapshot = host.instances.snapshots.get("web", "snap0").record
        assert snapshot.taken.layers == new.layers
        await eventually(lambda: rws(host, "web") == [new.rw])
        assert not host.store.claimed

        # Nothing was written since: no layer.
        assert await host.instances.snapshots.create("web") == "snap1"
        assert host.instances.get("web").record.layers == new.layers
        assert ("instance-snapshot-created", "/1.0/instances/web/snapshots/snap1") in host.events

    async def second(host: Host) -> None:
        assert [found.record.name for found in host.instances.snapshots.all("web")] == ["snap0", "snap1"]
        await host.instances.start("web")
        spec = host.containers.started[-1].spec
        assert spec.lowers[0].path == host.instances.get("web").record.layers[-1]
        assert spec.rw == host.instances.get("web").record.rw

    play(first, second)


def test_of_a_running_instance(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        (upper(host, "web") / "data").write_text("one")
        old = host.instances.get("web").record
        host.store.copying.clear()
        taking = asyncio.create_task(host.instances.snapshots.create("web", "now"))
        await eventually(lambda: container.frozen)
        assert host.instances.get("web").status is InstanceStatus.FROZEN
        host.store.copying.set()
        await taking
        assert not container.frozen
        assert host.instances.get("web").status is InstanceStatus.RUNNING
        assert host.instances.get("web").record.layers == old.layers
        taken = host.instances.snapshots.get("web", "now").record.taken
        assert taken.layers[:-1] == old.layers
        assert (host.config.state_dir / "layers" / taken.layers[-1] / "data").read_text() == "one"
        assert host.store.syncs == 1
        assert rws(host, "web") == [old.rw]

        # Who has frozen it himself finds it so afterwards.
        container.frozen = False
        await host.instances._life.freeze("web")
        await host.instances.snapshots.create("web")
        assert container.frozen

    play(scenario)


def test_a_copy_that_fails_thaws_and_leaves_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        host.store.failure = NoSpaceError("full")
        with pytest.raises(NoSpaceError):
            await host.instances.snapshots.create("web")
        host.store.failure = None
        assert not container.frozen
        assert host.instances.snapshots.all("web") == []
        host.store.copying.clear()
        taking = asyncio.create_task(host.instances.snapshots.create("web"))
        await eventually(lambda: container.frozen)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert not container.frozen
        # Stopped meanwhile: what was copied is of several moments.
        taking = asyncio.create_task(host.instances.snapshots.create("web"))
        await eventually(lambda: container.frozen)
        await host.instances.stop("web", Stop(force=True))
        host.store.copying.set()
        with pytest.raises(ConflictError, match="was stopped or thawed"):
            await taking
        assert len(rws(host, "web")) == 1
        assert host.instances.snapshots.all("web") == []
        assert not (host.config.state_dir / "instances/web/held-still").exists()

    play(scenario)


def test_a_stopped_one_that_fails_is_as_before(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        (upper(host, "web") / "data").write_text("one")
        before = host.instances.get("web").record
        host.store.failure = NoSpaceError("full")
        with pytest.raises(NoSpaceError):
            await host.instances.snapshots.create("web")
        host.store.failure = None
        host.store.adopt = _refuse  # type: ignore[method-assign]
        with pytest.raises(NoSpaceError, match="no rename"):
            await host.instances.snapshots.create("web")
        assert host.instances.get("web").record == before
        assert host.instances.snapshots.all("web") == []
        assert await host.database.run(table.load) == [before]
        assert await host.database.run(snapshot_table.load) == []
        assert (upper(host, "web") / "data").read_text() == "one"
        assert rws(host, "web") == [before.rw]

    play(scenario)


def _refuse(layer_id: str, directory: Path) -> None:
    raise NoSpaceError("no rename")


def test_the_next_daemon_finishes_what_was_committed(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        (upper(host, "web") / "data").write_text("one")
        old = host.instances.get("web").record.rw
        await host.instances.snapshots.create("web")
        await host.instances.rename("web", "db")
        # As if killed before either rename.
        state = host.config.state_dir
        (state / "instances/db").rename(state / "instances/web")
        (state / "instances/web" / old).mkdir()
        layer = upper_layer_id(old)
        (state / "layers" / layer).rename(state / "instances/web" / old / "upper")
        del host.store.layers[layer]

    async def second(host: Host) -> None:
        record = host.instances.get("db").record
        assert host.store.layer(record.layers[-1]) is not None
        assert (host.config.state_dir / "layers" / record.layers[-1] / "data").read_text() == "one"
        await eventually(lambda: [path.name for path in (host.config.state_dir / "instances").iterdir()] == ["db"])
        assert rws(host, "db") == [record.rw]

    play(first, second)


def test_the_next_daemon_collects_what_was_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        (upper(host, "web") / "data").write_text("one")
        await host.instances.snapshots.create("web")
        # As if killed right after.
        await host.database.run(lambda db: table.delete(db, "web"))
        assert [layer for layer in host.store.layers if layer.startswith("s-")]

    async def second(host: Host) -> None:
        await eventually(lambda: not [layer for layer in host.store.layers if layer.startswith("s-")])
        # Those of the image stay.
        assert host.store.layers

    play(first, second)


def test_the_next_daemon_thaws_what_this_one_froze(play: Play) -> None:
    async def first(host: Host) -> None:
        container = await create(host)
        assert container is not None
        host.store.copying.clear()
        taking = asyncio.create_task(host.instances.snapshots.create("web"))
        await eventually(lambda: container.frozen)
        host.containers.running["web"] = container
        # Killed: nothing of it comes to its end.
        host.instances._life._move_again = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign,assignment]
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert container.frozen

    async def second(host: Host) -> None:
        host.store.copying.set()
        assert not host.containers.running["web"].frozen
        assert host.instances.get("web").status is InstanceStatus.RUNNING
        assert not (host.config.state_dir / "instances/web/held-still").exists()

    play(first, second)


def test_restore(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, config={"user.a": "1"}, ephemeral=True)
        assert container is not None
        (upper(host, "web") / "data").write_text("one")
        await host.instances.snapshots.create("web", "first")
        hwaddr = host.instances.get("web").record.config["volatile.eth0.hwaddr"]
        current = host.instances.get("web").record
        await host.instances._roster.change(
            host.instances._roster.get("web"),
            lambda record: _with(record, {**record.config, "user.a": "2", "user.b": "3"}),
        )
        await host.instances.snapshots.restore("web", "first")
        record = host.instances.get("web").record
        assert record.rw != current.rw
        assert record.layers == host.instances.snapshots.get("web", "first").record.taken.layers
        assert record.config["user.a"] == "1"
        assert "user.b" not in record.config
        assert record.config["volatile.eth0.hwaddr"] == hwaddr
        assert record.created_at == current.created_at
        assert len(host.containers.started) == 2
        assert host.instances.get("web").status is InstanceStatus.RUNNING
        assert ("instance-restored", "/1.0/instances/web") in host.events
        await eventually(lambda: rws(host, "web") == [record.rw])
        with pytest.raises(NotFoundError, match='"web/none" not found'):
            await host.instances.snapshots.restore("web", "none")

    play(scenario)


def _with(record: table.InstanceRecord, config: dict[str, str]) -> table.InstanceRecord:
    return dataclasses.replace(record, config=config)


def test_names_expiry_and_deletion(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False, config={"snapshots.expiry": "1d", "snapshots.pattern": "s%d"})
        (upper(host, "web") / "data").write_text("one")
        snapshots = host.instances.snapshots
        assert await snapshots.create("web") == "s0"
        assert await snapshots.create("web", "kept", 0.0) == "kept"
        s0, kept = (found.record for found in snapshots.all("web"))
        assert s0.expires_at == pytest.approx(s0.created_at + 86400)
        assert kept.expires_at == 0
        with pytest.raises(ConflictError, match='"web/kept" already exists'):
            await snapshots.create("web", "kept")
        with pytest.raises(InvalidRequestError, match="Invalid snapshot name"):
            await snapshots.create("web", "a/b")
        await snapshots.rename("web", "kept", "other")
        with pytest.raises(ConflictError):
            await snapshots.rename("web", "other", "s0")
        await snapshots.expire(s0.expires_at - 1)
        assert len(snapshots.all("web")) == 2
        await snapshots.expire(s0.expires_at)
        assert [found.record.name for found in snapshots.all("web")] == ["other"]
        await snapshots.set_expiry("web", "other", 1.0)
        assert [row.expires_at for row in await host.database.run(snapshot_table.load)] == [1.0]
        await snapshots.delete("web", "other")
        assert await host.database.run(snapshot_table.load) == []
        # The instance stands on it.
        assert host.store.layer(host.instances.get("web").record.layers[-1]) is not None
        layer = host.instances.get("web").record.layers[-1]
        await snapshots.create("web", "last")
        await host.instances.delete("web")
        assert [event for event in host.events if "deleted" in event[0]][-2:] == [
            ("instance-snapshot-deleted", "/1.0/instances/web/snapshots/last"),
            ("instance-deleted", "/1.0/instances/web"),
        ]
        await eventually(lambda: host.store.layer(layer) is None)

    play(scenario)


def test_by_schedule(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "runs", config={"snapshots.schedule": "30 6 * * *"})
        await create(host, "rests", start=False, config={"snapshots.schedule": "30 6 * * *"})
        await create(
            host, "both", start=False, config={"snapshots.schedule": "@daily", "snapshots.schedule.stopped": "true"}
        )
        await create(host, "starts", config={"snapshots.schedule": "@startup"})
        snapshots = host.instances.snapshots
        await eventually(lambda: len(snapshots.all("starts")) == 1)
        for hour, minute in ((6, 29), (6, 30), (0, 0)):
            await snapshots.take_due(datetime(2024, 1, 1, hour, minute))
        assert [len(snapshots.all(name)) for name in ("runs", "rests", "both")] == [1, 0, 1]

    play(scenario)


def copy(host: Host, **wanted: object) -> NewCopy:
    return host.instances.reserve_copy(NewCopy(**wanted))  # type: ignore[arg-type]


def test_copies(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, config={"user.a": "1", "user.b": "2"}, description="source")
        (upper(host, "web") / "data").write_text("one")
        await host.instances.snapshots.create("web", "first")
        (upper(host, "web") / "data").write_text("two")
        await host.instances.copy(copy(host, name="twin", source="web", config={"user.b": "3"}))
        await host.instances.copy(copy(host, name="early", source="web", snapshot="first"))
        await host.instances.stop("web", Stop(force=True))
        await host.instances.wait("web", 5)
        await host.instances.copy(copy(host, name="bare", source="web", instance_only=True, profiles=()))
        web, twin, early, bare = (host.instances.get(name).record for name in ("web", "twin", "early", "bare"))
        assert (upper(host, "twin") / "data").read_text() == "two"
        # What a stopped one wrote is shared.
        for name in ("early", "bare", "web"):
            assert list(upper(host, name).iterdir()) == []
        assert (host.config.state_dir / "layers" / web.layers[-1] / "data").read_text() == "two"
        assert bare.layers == web.layers == (*twin.layers, web.layers[-1])
        assert early.layers == host.instances.snapshots.get("web", "first").record.taken.layers
        assert [len(host.instances.snapshots.all(name)) for name in ("twin", "early", "bare")] == [1, 0, 0]
        assert (twin.config["user.a"], twin.config["user.b"]) == ("1", "3")
        assert twin.config["volatile.base_image"] == web.config["volatile.base_image"]
        assert "volatile.eth0.hwaddr" not in twin.config
        assert len({record.config["volatile.uuid"] for record in (web, twin, early, bare)}) == 4
        assert (twin.profiles, bare.profiles, twin.description) == (("default",), (), "")
        with pytest.raises(ConflictError):
            copy(host, name="twin", source="web")
        with pytest.raises(NotFoundError):
            copy(host, name="more", source="web", snapshot="none")

    async def second(host: Host) -> None:
        await host.instances.delete("web")
        assert [found.record.instance for found in host.instances.snapshots.all("twin")] == ["twin"]
        await host.images.garbage.collect()
        await host.instances.snapshots.restore("twin", "first")
        await host.instances.start("twin")

    play(first, second)


@pytest.mark.parametrize("moment", range(0, 30, 3))
def test_a_copy_that_is_cancelled_leaves_nothing(play: Play, moment: int) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        job = asyncio.create_task(host.instances.copy(copy(host, name="twin", source="web")))
        for _ in range(moment % 9):
            await asyncio.sleep(0)
        await asyncio.sleep(moment / 3 * 0.0005)
        job.cancel()
        done = (await asyncio.gather(job, return_exceptions=True))[0] is None
        assert ("twin" in host.instances.names()) is done
        assert ("twin" in {row.name for row in await host.database.run(table.load)}) is done
        assert (host.config.state_dir / "instances/twin").exists() is done
        assert not container.frozen
        if not done:
            await eventually(lambda: [path.name for path in upper(host, "web").parents[2].iterdir()] == ["web"])
            host.instances.unreserve(copy(host, name="twin", source="web").name)

    play(scenario)


def test_refresh(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        await create(host, "backup", start=False, config={"user.a": "1"})
        (upper(host, "web") / "data").write_text("one")
        await host.instances.snapshots.create("web", "first")
        (upper(host, "web") / "data").write_text("two")
        (upper(host, "backup") / "stale").write_text("")
        await host.instances.snapshots.create("backup", "stray")
        await host.instances.copy(copy(host, name="backup", source="web", refresh=True))
        assert list(upper(host, "backup").iterdir()) == []
        assert [found.record.name for found in host.instances.snapshots.all("backup")] == ["first"]
        assert host.instances.get("backup").record.config["user.a"] == "1"
        assert host.instances.get("backup").record.layers == host.instances.get("web").record.layers
        with pytest.raises(InvalidRequestError, match="from itself"):
            await host.instances.copy(copy(host, name="web", source="web", refresh=True))
        await host.instances.start("web")
        (upper(host, "web") / "more").write_text("")
        await host.instances.copy(copy(host, name="backup", source="web", refresh=True))
        assert [path.name for path in upper(host, "backup").iterdir()] == ["more"]
        await host.instances.start("backup")
        with pytest.raises(InvalidRequestError, match="Cannot refresh a running instance"):
            copy(host, name="backup", source="web", refresh=True)

    play(scenario)


def test_rename(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host)
        await host.instances.snapshots.create("web", "first")
        with pytest.raises(InvalidRequestError, match="running container not allowed"):
            await host.instances.rename("web", "db")
        await host.instances.stop("web", Stop(force=True))
        await host.instances.wait("web", 5)
        await host.instances.rename("web", "db")
        assert host.instances.names() == ["db"]
        assert {lease.instance for lease in host.networks.leases("lxdpybr0")} == {"db"}
        assert ("instance-renamed", "/1.0/instances/db") in host.events
        await create(host, "web", start=False)
        with pytest.raises(ConflictError, match='Name "web" already in use'):
            await host.instances.rename("db", "web")
        with pytest.raises(InvalidRequestError, match="Invalid instance name"):
            await host.instances.rename("db", "b-")

    async def second(host: Host) -> None:
        assert host.instances.names() == ["db", "web"]
        assert [found.record.instance for found in host.instances.snapshots.all("db")] == ["db"]
        await host.instances.start("db")
        assert dict(host.containers.started[-1].spec.items)["lxc.uts.name"] == "db"
        assert {lease.instance for lease in host.networks.leases("lxdpybr0")} == {"db"}

    play(first, second)


def test_move_to_another_project(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        await host.instances.snapshots.create("web", "first")
        await host.projects.create("p1", ProjectSettings())
        await host.instances.copy(copy(host, name="p1_twin", source="web"))
        await host.instances.rename("web", "p1_web", instance_only=True)
        assert host.instances.names() == ["p1_twin", "p1_web"]
        assert ("instance-renamed", "/1.0/instances/web?project=p1") in host.events

    async def second(host: Host) -> None:
        assert host.instances.snapshots.all("p1_web") == []
        (snapshot,) = host.instances.snapshots.all("p1_twin")
        assert snapshot.record.taken.project == "p1"
        with pytest.raises(NotFoundError):
            await host.instances.rename("p1_web", "p2_web")
        await host.instances.snapshots.restore("p1_twin", "first")

    play(first, second)


def test_profiles_come_and_go(play: Play) -> None:
    async def scenario(host: Host) -> None:
        for name in ("one", "two"):
            await host.profiles.create("default", name, ProfileSettings("", {f"user.{name}": "1"}))
        await create(host, start=False, profiles=("one", "two"))
        await host.instances.snapshots.create("web", "first")
        await host.instances._roster.change(
            host.instances._roster.get("web"), lambda record: dataclasses.replace(record, profiles=())
        )
        await host.profiles.rename("default", "one", "uno")
        await host.profiles.delete("default", "two")
        assert "user.two" not in host.instances.snapshots.get("web", "first").expanded_config
        await host.instances.snapshots.restore("web", "first")
        assert host.instances.get("web").record.profiles == ("uno",)

    play(scenario)


def test_instances_of_earlier_versions(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        (upper(host, "web") / "data").write_text("one")
        rw = upper(host, "web").parent
        rw.rename(rw.parent / "rw")

        def forget(db: sqlite3.Connection) -> None:
            db.execute("UPDATE instances SET rw = 'rw'")

        await host.database.run(forget)

    async def second(host: Host) -> None:
        assert (upper(host, "web") / "data").read_text() == "one"
        assert rws(host, "web") == [host.instances.get("web").record.rw]
        await host.instances.snapshots.create("web")

    async def third(host: Host) -> None:
        assert rws(host, "web") == [host.instances.get("web").record.rw]

    play(first, second, third)
