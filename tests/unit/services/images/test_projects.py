"""Images in projects: one set of bytes, whoever has it."""

from collections.abc import Callable

import pytest

from lxdpy.errors import ConflictError, NotFoundError
from lxdpy.progress import NoProgress
from lxdpy.services.images import FoundImage, ImageSource
from lxdpy.services.instances import InstanceSettings
from lxdpy.services.instances.model import NewInstance
from lxdpy.services.projects import ProjectSettings
from tests.fakes.drivers import image_documents
from tests.unit.services.conftest import Host

Play = Callable[..., None]

REFERENCE = "docker.io/library/app:latest"


async def pull(host: Host, project: str = "default") -> str:
    host.registry.images.setdefault(REFERENCE, image_documents())
    found = await host.images.find(ImageSource(alias="app", protocol="oci", project=project), refresh=True)
    assert found.resolved is not None
    return (await host.images.pull(found.resolved, NoProgress(), project)).fingerprint


def test_each_project_sees_its_own(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("p1", ProjectSettings())
        fingerprint = await pull(host)
        assert host.images.all("p1") == []
        assert host.images.aliases.all("p1") == []
        for look in (host.images.get, host.images.show, host.images.lookup):
            with pytest.raises(NotFoundError):
                look(fingerprint, "p1")
        with pytest.raises(NotFoundError):
            await host.images.find(ImageSource(fingerprint=fingerprint[:12], project="p1"))
        # As `lxc --project p1 launch docker:app` asks for it, where `docker` is this daemon's `default`.
        found = await host.images.find(ImageSource(fingerprint=fingerprint, project="p1"))
        assert found.record is not None

        assert await pull(host, "p1") == fingerprint
        assert [image.fingerprint for image in host.images.all("p1")] == [fingerprint]
        assert [alias.name for alias in host.images.aliases.all("p1")] == ["app:latest"]
        assert len(host.images.all()) == 1
        assert ("image-updated", f"/1.0/images/{fingerprint}?project=p1") in host.events

    async def later(host: Host) -> None:
        (image,) = host.images.all()
        assert image.projects == ("default", "p1")
        await host.images.add_alias("mine", image.fingerprint, "", "p1")
        await host.images.add_alias("mine", image.fingerprint, "other", "default")
        with pytest.raises(ConflictError):
            await host.images.add_alias("mine", image.fingerprint, "", "p1")
        await host.images.aliases.rename("mine", "renamed", "p1")
        assert host.images.aliases.get("mine").description == "other"
        await host.images.aliases.delete("renamed", "p1")
        assert host.images.aliases.exact("mine") is not None

    async def last(host: Host) -> None:
        (image,) = host.images.all()
        await host.images.delete(image.fingerprint, "default")
        assert host.images.all("default") == []
        assert host.images.aliases.all() == []
        assert [alias.name for alias in host.images.aliases.all("p1")] == ["app:latest"]
        assert host.images.get(image.fingerprint, "p1").projects == ("p1",)
        await host.images.delete(image.fingerprint, "p1")
        assert host.images.all() == []
        await host.projects.delete("p1")

    play(scenario, later, last)


def test_an_instance_brings_its_image_into_its_project(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("own", ProjectSettings())
        await host.projects.create("shared", ProjectSettings(config={"features.images": "false"}))
        host.registry.images[REFERENCE] = image_documents()

        async def make(name: str, owner: str) -> None:
            source = ImageSource(alias="app", protocol="oci", project=owner)
            new = host.instances.reserve(NewInstance(name, source, InstanceSettings()))
            await host.instances.create(new, await host.images.find(source), NoProgress())

        await make("shared_web", "default")
        (image,) = host.images.all()
        assert image.projects == ("default",)
        await make("own_web", "own")
        assert host.images.get(image.fingerprint).projects == ("default", "own")
        assert [alias.name for alias in host.images.aliases.all("own")] == ["app:latest"]

        await host.projects.create("third", ProjectSettings())
        admitted = FoundImage(host.images.get(image.fingerprint), None)
        new = host.instances.reserve(NewInstance("third_web", ImageSource(), InstanceSettings()))
        await host.instances.create(new, admitted, NoProgress())
        assert [alias.name for alias in host.images.aliases.all("third")] == ["app:latest"]

        # As with LXD: pylxd's tests ask for architecture "2".
        other = host.instances.reserve(NewInstance("big", ImageSource(), InstanceSettings(architecture="2")))
        await host.instances.create(other, admitted, NoProgress())
        assert host.instances.get("big").record.architecture == admitted.record.architecture

    play(scenario)
