"""What happens when two requests meet, or one is cut off half-way."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from lxdpy.db import instances as table
from lxdpy.db import leases
from lxdpy.drivers.base import ExitStatus
from lxdpy.errors import ConflictError, LxdpyError, NotFoundError, WorkerError
from lxdpy.operations import Requestor, current_requestor
from lxdpy.progress import NoProgress
from lxdpy.services.instances import Action, Instance, InstanceSettings, InstanceStatus, NewInstance, Stop
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import APP, create

Play = Callable[..., None]


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("moment", range(0, 60, 3))
def test_a_create_that_is_cancelled_leaves_nothing(play: Play, moment: int, start: bool) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "first", start=False)
        wanted = replace(host.instances.reserve(NewInstance("web", APP, InstanceSettings())), start=start)
        host.containers.starting.clear()
        job = asyncio.create_task(host.instances.create(wanted, await host.images.find(APP), NoProgress()))
        # Threads take their time: a few steps of the loop, then a few moments.
        await steps(moment % 12)
        await asyncio.sleep(moment / 3 * 0.0005)
        job.cancel()
        done = (await asyncio.gather(job, return_exceptions=True))[0] is None
        assert ("web" in host.instances.names()) is done
        assert ("web" in {row.name for row in await host.database.run(table.load)}) is done
        if not done:
            assert not (host.config.state_dir / "instances" / "web").exists()
            host.instances.unreserve(host.instances.reserve(wanted).name)

    play(scenario)


def test_a_cancelled_pull_is_known_to_memory_and_database_alike(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        (image,) = host.images.all()
        await host.images.delete(image.fingerprint)
        found = await host.images.find(APP)
        assert found.resolved is not None
        job = asyncio.create_task(host.images.pull(found.resolved, NoProgress()))
        while not host.store.held:
            await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        known = host.images.all()
        await host.images.load()
        assert host.images.all() == known
        assert host.store.held == []

    play(scenario)


def test_a_deleted_name_that_is_another_instance_by_now(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        first = asyncio.create_task(host.instances.delete("web"))
        await steps(1)
        late = [
            asyncio.create_task(job)
            for job in (
                host.instances.delete("web"),
                host.instances.start("web"),
                host.instances.update("web", lambda current: InstanceSettings()),
            )
        ]
        await first
        await create(host, start=False, description="new")
        for result in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(result, NotFoundError)
        assert host.instances.get("web").record.description == "new"
        assert host.instances.get("web").status is InstanceStatus.STOPPED

    play(scenario)


def test_changes_at_the_same_time_all_happen(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)

        def adding(key: str) -> Callable[[Instance], InstanceSettings]:
            return lambda current: InstanceSettings(config={**current.record.config, key: "x"})

        await asyncio.gather(*(host.instances.update("web", adding(f"user.{number}")) for number in range(5)))
        assert {f"user.{number}" for number in range(5)} <= set(host.instances.get("web").record.config)

    play(scenario)


def test_what_the_daemon_wrote_since_a_client_read_stays(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        read = dict(host.instances.get("web").record.config)
        await host.instances.start("web")
        running = host.instances.get("web").record.config
        await host.instances.update("web", lambda current: InstanceSettings(config=read))
        assert host.instances.get("web").record.config == running
        stolen = {**read, "volatile.eth0.host_name": "eth0"}
        await host.instances.update("web", lambda current: InstanceSettings(config=stolen))
        assert host.instances.get("web").record.config == running

    play(scenario)


def test_a_copied_configuration_is_not_the_other_instances_state(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "one")
        theirs = host.instances.get("one").record.config
        await create(host, "two", start=False, config=dict(theirs))
        own = host.instances.get("two").record.config
        assert own["volatile.last_state.power"] == "STOPPED"
        assert own["volatile.uuid"] != theirs["volatile.uuid"]
        assert "volatile.eth0.host_name" not in own

    play(scenario)


def test_stop_waits_for_a_start(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        host.containers.starting.clear()
        starting = asyncio.create_task(host.instances.start("web"))
        while host.instances.get("web").status is not InstanceStatus.STARTING:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(host.instances.stop("web", Stop(force=True)))
        await steps(5)
        host.containers.starting.set()
        await asyncio.gather(starting, stopping)
        assert host.containers.started[-1].signals == [9]
        assert host.instances.get("web").status is InstanceStatus.STOPPED

    play(scenario)


def test_two_stops_are_one_end(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.ignores = {3}
        patient = asyncio.create_task(host.instances.stop("web", Stop()))
        hasty = asyncio.create_task(host.instances.stop("web", Stop(timeout_s=0.01)))
        with pytest.raises(ConflictError, match="still runs"):
            await hasty
        assert host.instances.get("web").status is InstanceStatus.STOPPING
        await host.instances.stop("web", Stop(force=True))
        await patient
        await host.instances.wait("web", 5)
        ends = [action for action, _ in host.events if action in ("instance-stopped", "instance-shutdown")]
        assert ends == ["instance-stopped"]

    play(scenario)


def test_an_end_amid_a_freeze(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None

        async def freeze() -> None:
            container.end(ExitStatus(0, None))
            await host.instances.wait("web", 5)

        container.freeze = freeze  # type: ignore[method-assign]
        with pytest.raises(ConflictError, match="ended before"):
            await host.instances.act("web", Action.FREEZE, Stop())
        await host.instances.start("web")
        assert len(host.containers.started) == 2

    play(scenario)


@pytest.mark.parametrize("failure", [WorkerError("no"), None])
def test_an_ephemeral_instance_whose_restart_fails(play: Play, failure: Exception | None) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, ephemeral=True)
        assert container is not None
        if failure is None:
            container.ignores = {3}
            with pytest.raises(ConflictError, match="still runs"):
                await host.instances.act("web", Action.RESTART, Stop(timeout_s=0.01))
            assert host.instances.get("web").status is InstanceStatus.RUNNING
            container.end(ExitStatus(0, None))
        else:
            host.containers.failure = failure
            with pytest.raises(WorkerError):
                await host.instances.act("web", Action.RESTART, Stop(force=True))
        while host.instances.names():
            await asyncio.sleep(0.001)

    play(scenario)


def test_an_ephemeral_instance_that_a_daemon_did_not_get_to_delete(play: Play) -> None:
    async def first(host: Host) -> None:
        container = await create(host, ephemeral=True)
        assert container is not None
        container.ended.set()
        container.cleared.set()
        while host.instances.get("web").status is not InstanceStatus.STOPPED:
            await asyncio.sleep(0)

    async def second(host: Host) -> None:
        while host.instances.names():
            await asyncio.sleep(0.001)

    play(first, second)


def test_trouble_after_the_end_leaves_an_instance_that_can_be_started_and_deleted(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None

        async def released() -> ExitStatus:
            raise WorkerError("the monitor is a mystery")

        container.released = released  # type: ignore[method-assign]
        host.network_host.failure = WorkerError("no netlink today")
        await host.instances.stop("web", Stop(force=True))
        await host.instances.start("web")
        await host.instances.stop("web", Stop(force=True))
        await host.instances.delete("web")

    play(scenario)


def test_one_instance_that_cannot_be_taken_over_does_not_keep_the_others_down(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        host.containers.failure = WorkerError("no")

    async def second(host: Host) -> None:
        assert host.instances.get("web").status is InstanceStatus.STOPPED

    play(first, second)


def test_an_instance_of_a_damaged_image_is_listed_and_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        host.store.blobs.clear()

    async def second(host: Host) -> None:
        assert host.instances.get("web").record.name == "web"
        with pytest.raises(LxdpyError):
            await host.instances.start("web")
        await host.instances.delete("web")

    play(first, second)


def test_an_end_is_not_the_doing_of_whoever_started_it(play: Play) -> None:
    async def scenario(host: Host) -> None:
        current_requestor.set(Requestor("alice"))
        container = await create(host)
        assert container is not None
        seen: list[Requestor | None] = []

        async def released() -> ExitStatus:
            seen.append(current_requestor.get())
            return ExitStatus(0, None)

        container.released = released  # type: ignore[method-assign]
        container.ended.set()
        await host.instances.wait("web", 5)
        assert seen == [None]
        assert host.events[-1][0] == "instance-stopped"

    play(scenario)


def test_an_address_that_a_cancelled_start_took_is_not_given_twice(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "a", start=False)
        await create(host, "b", start=False)
        for pauses in range(40):
            starting = asyncio.create_task(host.instances.start("a"))
            await steps(pauses)
            starting.cancel()
            result = (await asyncio.gather(starting, return_exceptions=True))[0]
            assert isinstance(result, asyncio.CancelledError | None)
            known = host.networks.leases("lxdpybr0")
            assert await host.database.run(leases.load) == known
            if result is None:
                await host.instances.stop("a", Stop(force=True))
            assert host.instances.get("a").status is InstanceStatus.STOPPED
        await host.instances.start("b")
        found = [lease.address for lease in host.networks.leases("lxdpybr0")]
        assert len(set(found)) == len(found)

    play(scenario)
