"""Projects and what is in them."""

import asyncio
from collections.abc import Callable

import pytest

from lxdpy.errors import AccessDeniedError, ConflictError, InvalidRequestError, NotFoundError
from lxdpy.progress import NoProgress
from lxdpy.services.images import ImageSource
from lxdpy.services.instances import InstanceSettings, NewInstance, ProfileSettings
from lxdpy.services.projects import Feature, ProjectSettings
from tests.fakes.drivers import image_documents
from tests.unit.services.conftest import Host

Play = Callable[..., None]


async def make_instance(host: Host, name: str, **settings: object) -> None:
    host.registry.images["docker.io/library/app:latest"] = image_documents()
    new = host.instances.reserve(
        NewInstance(name, ImageSource(alias="app", protocol="oci"), InstanceSettings(**settings))  # type: ignore[arg-type]
    )
    await host.instances.create(new, await host.images.find(new.source), NoProgress())


def test_a_project_lives_through_daemons_until_it_is_deleted(play: Play) -> None:
    async def first(host: Host) -> None:
        (default,) = host.projects.all()
        assert host.projects.used_by("default") == ["/1.0/profiles/default"]
        assert default.config[Feature.NETWORKS] == "true"
        await host.projects.create("p1", ProjectSettings("mine", {"user.a": "1"}))
        assert ("project-created", "/1.0/projects/p1") in host.events

    async def second(host: Host) -> None:
        project = host.projects.get("p1")
        assert (project.description, project.config["user.a"]) == ("mine", "1")
        assert project.config[Feature.IMAGES] == project.config[Feature.PROFILES] == "true"
        assert host.projects.used_by("p1") == ["/1.0/profiles/default?project=p1"]
        await host.projects.rename("p1", "p2")
        await host.projects.delete("p2")
        assert [entry.name for entry in host.projects.all()] == ["default"]

    play(first, second, first)


@pytest.mark.parametrize("name", ["", "a_b", "a/b", "a b", ".", "..", "*", "-a", "a" * 64, "a\n"])
def test_names_that_cannot_be_part_of_a_path(play: Play, name: str) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError):
            await host.projects.create(name, ProjectSettings())

    play(scenario)


@pytest.mark.parametrize(
    "config",
    [
        {"nonsense": "1"},
        {"features.images": "maybe"},
        {"features.networks": "true"},
        {"limits.instances": "-1"},
        {"restricted": "true"},
    ],
)
def test_configuration_that_cannot_be(play: Play, config: dict[str, str]) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError, match=f'Invalid project configuration key "{next(iter(config))}"'):
            await host.projects.create("p1", ProjectSettings(config=config))

    play(scenario)


def test_default_stays_as_it_is(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(AccessDeniedError):
            await host.projects.delete("default")
        with pytest.raises(AccessDeniedError):
            await host.projects.rename("default", "other")
        default = host.projects.get("default")
        with pytest.raises(InvalidRequestError, match="features of the default project"):
            await host.projects.update("default", lambda project: ProjectSettings("", {}))
        await host.projects.update("default", lambda project: ProjectSettings("d", {**default.config, "user.a": "b"}))
        assert host.projects.get("default").config["user.a"] == "b"

    play(scenario)


def test_two_projects_have_instances_of_one_name(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings(config={"features.profiles": "false"}))
        await make_instance(host, "web")
        await make_instance(host, "p1_web")
        with pytest.raises(ConflictError, match='"web" already exists'):
            await make_instance(host, "p1_web")
        with pytest.raises(NotFoundError, match="Project 'nope' not found"):
            await make_instance(host, "nope_web")
        assert host.instances.names("default") == ["web"]
        assert host.instances.names("p1") == ["p1_web"]
        assert host.instances.names() == ["web", "p1_web"]
        record = host.instances.get("p1_web").record
        assert (record.project, record.plain_name) == ("p1", "web")
        assert ("instance-created", "/1.0/instances/web?project=p1") in host.events
        await host.instances.start("p1_web")
        (spec,) = [container.spec for container in host.containers.started if container.spec.name == "p1_web"]
        assert ("lxc.uts.name", "web") in spec.items
        network = host.config.state_dir / "instances" / "p1_web" / "network"
        assert (network / "hostname").read_text() == "web\n"
        assert "\tweb\n" in (network / "hosts").read_text()

    play(scenario)


def test_a_project_in_use_keeps_features_and_name(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings())
        await make_instance(host, "p1_web", profiles=())
        config = {**host.projects.get("p1").config, "features.profiles": "false"}
        with pytest.raises(InvalidRequestError, match="cannot be disabled on non-empty"):
            await host.projects.update("p1", lambda project: ProjectSettings("", config))
        with pytest.raises(InvalidRequestError, match="Only empty projects can be renamed"):
            await host.projects.rename("p1", "p2")
        with pytest.raises(InvalidRequestError, match="Only empty projects can be removed"):
            await host.projects.delete("p1")
        await host.instances.delete("p1_web")
        assert f"/1.0/images/{host.images.all('p1')[0].fingerprint}?project=p1" in host.projects.used_by("p1")
        await host.images.delete(host.images.all("p1")[0].fingerprint, "p1")
        await host.projects.update("p1", lambda project: ProjectSettings("", config))
        await host.projects.delete("p1")

    play(scenario)


def test_an_instance_being_made_keeps_its_project(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings())
        new = host.instances.reserve(NewInstance("p1_", ImageSource(alias="app", protocol="oci"), InstanceSettings()))
        assert new.name.startswith("p1_")
        with pytest.raises(InvalidRequestError, match="Only empty"):
            await host.projects.delete("p1")
        host.instances.unreserve(new.name)
        deleting = asyncio.ensure_future(host.projects.delete("p1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            host.instances.unreserve(host.instances.reserve(new).name)
        except NotFoundError:
            pass
        await deleting
        with pytest.raises(NotFoundError):
            host.instances.reserve(new)

    play(scenario)


def test_limits_count(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings(config={"limits.instances": "1"}))
        assert host.projects.limit("p1", "limits.instances") == 1
        assert host.projects.limit("p1", "limits.containers") == -1
        await make_instance(host, "p1_a")
        with pytest.raises(InvalidRequestError, match='"limits\\.instances" is 1'):
            await make_instance(host, "p1_b")
        await make_instance(host, "b")

    play(scenario)


def test_profiles_of_a_projects_own(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("own", ProjectSettings())
        await host.projects.create("shared", ProjectSettings(config={"features.profiles": "false"}))
        await host.profiles.create("own", "x", ProfileSettings("of own"))
        await host.profiles.create("shared", "y", ProfileSettings("of default"))
        assert [profile.name for profile in host.profiles.all("own")] == ["default", "x"]
        assert host.profiles.get("own", "default").devices == {}
        assert [profile.name for profile in host.profiles.all("default")] == ["default", "y"]
        assert host.profiles.all("shared") == host.profiles.all("default")
        await make_instance(host, "shared_web", profiles=("default", "y"))
        await make_instance(host, "web", profiles=("y",))
        await make_instance(host, "own_web", profiles=("x",))
        assert host.profiles.used_by(host.profiles.get("default", "y")) == ["web", "shared_web"]
        assert host.profiles.used_by(host.profiles.get("own", "x")) == ["own_web"]

    async def later(host: Host) -> None:
        assert host.profiles.get("own", "x").description == "of own"
        await host.images.delete(host.images.all("own")[0].fingerprint, "own")
        await host.profiles.update("own", "default", lambda profile: ProfileSettings("edited"))
        await host.instances.delete("own_web")
        await host.profiles.delete("own", "x")
        await host.projects.rename("own", "new")
        assert host.profiles.get("new", "default").description == "Default lxdpy profile for project new"
        await host.projects.delete("new")
        with pytest.raises(NotFoundError):
            host.profiles.all("new")

    play(scenario, later)


def test_nothing_is_in_an_unknown_project(play: Play) -> None:
    async def scenario(host: Host) -> None:
        for job in (
            host.projects.delete("nope"),
            host.projects.rename("nope", "x"),
            host.profiles.create("nope", "x", ProfileSettings()),
        ):
            with pytest.raises(NotFoundError, match="'nope' not found"):
                await job
        with pytest.raises(NotFoundError, match="'nope' not found"):
            host.profiles.all("nope")
        assert host.instances.names("nope") == []

    play(scenario)


def test_an_instance_moves_between_projects(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings(config={"limits.instances": "1"}))
        await host.profiles.create("default", "here", ProfileSettings())
        await make_instance(host, "web", profiles=("default",))
        await make_instance(host, "db", profiles=("here",))
        with pytest.raises(NotFoundError, match="Project 'nope' not found"):
            await host.instances.rename("web", "nope_web")
        with pytest.raises(NotFoundError, match='Profile "here" not found'):
            await host.instances.rename("db", "p1_db")
        assert "eth0" in host.instances.get("web").expanded_devices
        await host.instances.rename("web", "p1_site")
        assert host.instances.names() == ["db", "p1_site"]
        assert host.instances.get("p1_site").expanded_devices == {}
        assert (host.config.state_dir / "instances" / "p1_site").is_dir()
        assert ("instance-renamed", "/1.0/instances/site?project=p1") in host.events
        await make_instance(host, "web", profiles=())
        with pytest.raises(InvalidRequestError, match="is 1"):
            await host.instances.rename("web", "p1_web")
        await host.instances.rename("p1_site", "p1_web")
        with pytest.raises(ConflictError):
            await host.instances.rename("p1_web", "web")

    async def later(host: Host) -> None:
        assert host.instances.names() == ["db", "web", "p1_web"]
        await host.instances.rename("p1_web", "back")
        assert "eth0" in host.instances.get("back").expanded_devices

    play(scenario, later)
