import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from lxdpy.drivers.base import ExitStatus
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, WorkerError
from lxdpy.progress import NoProgress
from lxdpy.services.images import ImageSettings, ImageSource
from lxdpy.services.instances import Action, InstanceSettings, InstanceStatus, NewInstance, Stop
from tests.fakes.drivers import FakeContainer, image_documents
from tests.unit.services.conftest import Host

APP = ImageSource(alias="app", protocol="oci")
Play = Callable[..., None]


async def create(host: Host, name: str = "web", *, start: bool = True, **settings: object) -> FakeContainer | None:
    host.registry.images.setdefault(
        "docker.io/library/app:latest",
        image_documents((b"base", b"top"), Env=["FOO=image"], User="app", StopSignal="SIGQUIT", WorkingDir="/srv"),
    )
    wanted = NewInstance(name, APP, InstanceSettings(**settings))  # type: ignore[arg-type]
    wanted = host.instances.reserve(wanted)
    await host.instances.create(replace(wanted, start=start), await host.images.find(APP), NoProgress())
    return host.containers.started[-1] if start else None


def test_without_profiles_of_its_own_it_has_those_of_its_image(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        (image,) = host.images.all()
        await host.images.update(image.fingerprint, lambda _: ImageSettings(profiles=()))
        for name, image_profiles, expected in (("one", True, ()), ("two", False, ("default",))):
            wanted = host.instances.reserve(NewInstance(name, APP, InstanceSettings(), image_profiles=image_profiles))
            await host.instances.create(wanted, await host.images.find(APP), NoProgress())
            assert host.instances.get(name).record.profiles == expected
        await host.images.update(image.fingerprint, lambda _: ImageSettings(profiles=("gone",)))
        wanted = host.instances.reserve(NewInstance("three", APP, InstanceSettings(), image_profiles=True))
        with pytest.raises(NotFoundError):
            await host.instances.create(wanted, await host.images.find(APP), NoProgress())
        assert "three" not in host.instances.names()
        # Pulled again, it is as clients have changed it.
        found = await host.images.find(APP, refresh=True)
        assert found.resolved is not None
        assert (await host.images.pull(found.resolved, NoProgress())).profiles == ("gone",)

    play(scenario)


def test_create_start_stop_delete(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        spec = container.spec
        assert spec.argv == ("/bin/sh",)
        assert (spec.user, spec.cwd) == ("app", "/srv")
        assert dict(spec.environment)["FOO"] == "image"
        assert spec.idmap is not None
        items = dict(spec.items)
        assert items["lxc.uts.name"] == "web"
        assert items["lxc.net.0.ipv4.address"] == "10.76.0.2/16 10.76.255.255"
        assert items["lxc.net.0.ipv4.gateway"] == "10.76.0.1"
        assert [mount.path for mount in spec.lowers] == list(host.instances.get("web").record.layers[::-1])
        assert {file.target for file in spec.files} == {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"}
        assert host.instances.get("web").status is InstanceStatus.RUNNING
        assert host.instances.state("web").usage is not None
        with pytest.raises(InvalidRequestError, match="Instance is running"):
            await host.instances.delete("web")

        await host.instances.stop("web", Stop())
        assert container.signals == [3]
        assert host.instances.get("web").status is InstanceStatus.STOPPED
        state = await host.instances.wait("web", 5)
        assert state.exit == ExitStatus(None, 3)
        await host.instances.delete("web")
        assert host.instances.names() == []
        with pytest.raises(NotFoundError):
            host.instances.get("web")
        actions = [action for action, source in host.events if "instance" in source]
        assert actions == ["instance-created", "instance-started", "instance-shutdown", "instance-deleted"]
        assert host.networks.leases("lxdpybr0") == []

    play(scenario)


def test_nothing_of_it_is_left_on_disk(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        directory = host.config.state_dir / "instances"
        assert (directory / "web" / host.instances.get("web").record.rw / "upper").is_dir()
        await host.instances.delete("web")
        while list(directory.iterdir()):
            await asyncio.sleep(0.01)

    play(scenario)


def test_a_taken_name_and_two_creates_at_once(play: Play) -> None:
    async def scenario(host: Host) -> None:
        first = host.instances.reserve(NewInstance("web", APP, InstanceSettings()))
        with pytest.raises(ConflictError, match="already exists"):
            host.instances.reserve(first)
        host.instances.unreserve("web")
        await create(host, start=False)
        with pytest.raises(ConflictError, match="already exists"):
            host.instances.reserve(first)

    play(scenario)


def test_a_name_is_picked_and_given_back_when_the_create_fails(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["docker.io/library/app:latest"] = image_documents()
        host.store.failure = WorkerError("no")
        wanted = host.instances.reserve(NewInstance("", APP, InstanceSettings()))
        assert wanted.name
        with pytest.raises(WorkerError):
            await host.instances.create(wanted, await host.images.find(APP), NoProgress())
        assert host.instances.names() == []
        host.instances.unreserve(host.instances.reserve(wanted).name)

    play(scenario)


def test_an_image_that_runs_nothing_is_refused_at_create(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["docker.io/library/app:latest"] = image_documents(Entrypoint=None)
        with pytest.raises(InvalidRequestError, match="neither entrypoint nor command"):
            await create(host, start=False)
        assert host.instances.names() == []
        assert list((host.config.state_dir / "instances").iterdir()) == []
        await create(host, start=False, config={"oci.entrypoint": "/bin/true"})

    play(scenario)


@pytest.mark.parametrize("settings", [{"config": {"a": "b"}}, {"devices": {"x": {"type": "gpu"}}}])
def test_bad_settings_are_refused_and_the_name_stays_free(play: Play, settings: dict[str, object]) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError):
            await create(host, **settings)
        with pytest.raises(NotFoundError, match='Profile "none"'):
            await create(host, profiles=("none",))
        await create(host)

    play(scenario)


def test_a_failed_start_leaves_it_stopped(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.containers.failure = InvalidRequestError("no such entrypoint")
        with pytest.raises(InvalidRequestError, match="entrypoint"):
            await create(host)
        assert host.instances.get("web").status is InstanceStatus.STOPPED
        assert host.instances.get("web").record.config["volatile.last_state.power"] == "STOPPED"
        host.containers.failure = None
        await host.instances.start("web")
        with pytest.raises(ConflictError, match="already running"):
            await host.instances.start("web")

    play(scenario)


def test_stop_in_time_or_not(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.ignores = {3}
        with pytest.raises(ConflictError, match="still runs"):
            await host.instances.stop("web", Stop(timeout_s=0.01))
        assert host.instances.get("web").status is InstanceStatus.RUNNING
        await host.instances.stop("web", Stop(timeout_s=0.01, kill=True))
        assert container.signals == [3, 3, 9]
        with pytest.raises(ConflictError, match="already stopped"):
            await host.instances.stop("web", Stop())

    play(scenario)


def test_force_does_not_wait_for_a_graceful_stop(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.ignores = {3}
        graceful = asyncio.create_task(host.instances.stop("web", Stop()))
        await asyncio.sleep(0)
        assert host.instances.get("web").status is InstanceStatus.STOPPING
        await host.instances.stop("web", Stop(force=True))
        await graceful

    play(scenario)


def test_freeze_and_stop_while_frozen(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        await host.instances.act("web", Action.FREEZE, Stop())
        assert host.instances.get("web").status is InstanceStatus.FROZEN
        with pytest.raises(InvalidRequestError, match="frozen"):
            host.instances.running("web")
        await host.instances.act("web", Action.START, Stop())
        assert not container.frozen
        await host.instances.act("web", Action.FREEZE, Stop())
        await host.instances.stop("web", Stop(force=True))
        assert not container.frozen
        assert host.instances.get("web").status is InstanceStatus.STOPPED

    play(scenario)


def test_restart_keeps_the_address_and_an_ephemeral_instance(play: Play) -> None:
    async def scenario(host: Host) -> None:
        first = await create(host, ephemeral=True)
        await host.instances.act("web", Action.RESTART, Stop(force=True))
        assert host.events[-1] == ("instance-restarted", "/1.0/instances/web")
        assert [action for action, _ in host.events].count("instance-started") == 1
        second = host.containers.started[-1]
        assert first is not None
        assert second is not first
        assert dict(second.spec.items)["lxc.net.0.ipv4.address"] == dict(first.spec.items)["lxc.net.0.ipv4.address"]
        assert dict(second.spec.items)["lxc.net.0.hwaddr"] == dict(first.spec.items)["lxc.net.0.hwaddr"]
        second.end(ExitStatus(0, None))
        while host.instances.names():
            await asyncio.sleep(0.001)

    play(scenario)


def test_a_stopped_ephemeral_instance_is_gone_at_once(play: Play) -> None:
    async def scenario(host: Host) -> None:
        for how in (Stop(), Stop(force=True)):
            await create(host, ephemeral=True)
            await host.instances.act("web", Action.STOP, how)
            assert host.instances.names() == []

    play(scenario)


def test_a_start_waits_until_the_last_container_is_cleared(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.ended.set()
        while host.instances.get("web").status is not InstanceStatus.STOPPED:
            await asyncio.sleep(0)
        starting = asyncio.create_task(host.instances.start("web"))
        await asyncio.sleep(0.01)
        assert host.instances.get("web").status is InstanceStatus.STARTING
        container.cleared.set()
        await starting
        assert len(host.containers.started) == 2

    play(scenario)


def test_a_new_daemon_takes_over_what_runs(play: Play) -> None:
    async def first(host: Host) -> None:
        container = await create(host)
        assert container is not None
        await create(host, "dead")
        await create(host, "gone", ephemeral=True)
        container.ended = asyncio.Event()
        host.containers.running["web"] = container

    async def second(host: Host) -> None:
        container = FakeContainer(host.containers.started[0].spec)
        assert host.instances.get("web").status is InstanceStatus.RUNNING
        assert host.instances.get("dead").status is InstanceStatus.STOPPED
        assert host.instances.get("dead").record.config["volatile.last_state.power"] == "STOPPED"
        assert len(host.network_host.removed_links) == 2
        while "gone" in host.instances.names():
            await asyncio.sleep(0.001)
        assert container.name == "web"

    play(first, second)


def test_leftovers_of_a_dead_daemon_are_swept(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        for name in (".tmp-1", ".trash-2", "orphan"):
            (host.config.state_dir / "instances" / name / "rw").mkdir(parents=True)

    async def second(host: Host) -> None:
        while [path.name for path in (host.config.state_dir / "instances").iterdir()] != ["web"]:
            await asyncio.sleep(0.001)

    play(first, second)


def test_update(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        own = host.instances.get("web").record.config
        changed = InstanceSettings(description="d", config={**own, "environment.FOO": "mine"})
        await host.instances.update("web", lambda current: changed)
        instance = host.instances.get("web")
        assert instance.record.description == "d"
        assert instance.expanded_config["environment.FOO"] == "mine"
        await host.instances.start("web")
        assert dict(host.containers.started[-1].spec.environment)["FOO"] == "mine"
        with pytest.raises(InvalidRequestError, match="Unknown configuration key"):
            await host.instances.update("web", lambda current: InstanceSettings(config={"x": "y"}))

    play(scenario)


def test_privileged_has_no_idmap(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, config={"security.privileged": "true"})
        assert container is not None
        assert container.spec.idmap is None

    play(scenario)


def test_without_a_nic_there_is_no_network(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, profiles=())
        assert container is not None
        assert ("lxc.net.0.type", "empty") in container.spec.items
        assert host.network_host.bridges == []

    play(scenario)


def test_layers_live_as_long_as_the_instance(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        (image,) = host.images.all()
        await host.images.delete(image.fingerprint)
        assert len(host.store.layers) == 2
        await host.instances.start("web")
        await host.instances.stop("web", Stop(force=True))
        await host.instances.delete("web")
        while host.store.layers:
            await asyncio.sleep(0.001)

    play(scenario)
