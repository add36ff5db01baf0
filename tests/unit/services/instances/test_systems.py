"""Instances that run their own init: what starts, halts and reboots them, and their templates."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lxdpy.drivers.base import ExitStatus, ImageFile, ImageFiles, TemplateFile
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.image_metadata import Template
from lxdpy.oci.digest import Digest
from lxdpy.progress import NoProgress
from lxdpy.services.images import ImageDetails, ImageSource
from lxdpy.services.instances import Instance, InstanceSettings, InstanceStatus, NewInstance, Stop
from tests.fakes.drivers import FakeContainer, image_documents
from tests.unit.services.conftest import Host

Play = Callable[..., None]

METADATA = """\
architecture: x86_64
creation_date: 1700000000
properties: {os: tiny}
templates:
  /etc/hostname: {when: [create, copy, rename], template: hostname.tpl}
  /etc/always: {when: [start], template: always.tpl, properties: {a: b}}
  /etc/once: {when: [create, start], template: hostname.tpl, create_only: true}
"""
HALTED, REBOOTED = ExitStatus(None, 2), ExitStatus(None, 1)


async def create(host: Host, *, start: bool = True, **settings: object) -> FakeContainer | None:
    directory = host.config.state_dir / "images-of-the-test"
    directory.mkdir(exist_ok=True)
    host.store.directory = directory
    data = json.dumps({"metadata.yaml": METADATA}).encode()
    (directory / "file").write_bytes(data)
    digest = Digest.of(data)
    image = await host.images.import_files(
        ImageFiles(digest.hex, ImageFile(digest, len(data), directory / "file")),
        ImageDetails(filename="", public=False, properties={}, aliases={"tiny": ""}, expires_at=None),
    )
    templates = host.images.metadata_directory(image.fingerprint) / "templates"
    templates.mkdir(exist_ok=True)
    (templates / "hostname.tpl").write_text("{{ instance.name }}\n")
    (templates / "always.tpl").write_text("{{ trigger }}\n")
    source = ImageSource(alias="tiny")
    wanted = host.instances.reserve(NewInstance("web", source, InstanceSettings(**settings)))  # type: ignore[arg-type]
    await host.instances.create(replace(wanted, start=start), await host.images.find(source), NoProgress())
    return host.containers.started[-1] if start else None


async def started_again(host: Host, after: FakeContainer) -> FakeContainer:
    while host.containers.started[-1] is after or host.instances.get("web").status is not InstanceStatus.RUNNING:
        await asyncio.sleep(0)
    return host.containers.started[-1]


def test_it_runs_its_init_with_nothing_of_ours(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, config={"environment.A": "1"})
        assert container is not None
        spec = container.spec
        assert (spec.argv, spec.user, spec.cwd, spec.system) == (("/sbin/init",), "", "/", True)
        assert spec.environment == (("A", "1"),)
        assert spec.files == ()
        config = host.instances.get("web").expanded_config
        assert config["image.os"] == "tiny"
        assert not any(key.startswith("oci.") or key == "volatile.container.oci" for key in config)
        assert json.loads(config["volatile.idmap.current"]) == [
            {"Isuid": True, "Isgid": False, "Hostid": 1_000_000, "Nsid": 0, "Maprange": 65_536},
            {"Isuid": False, "Isgid": True, "Hostid": 1_000_000, "Nsid": 0, "Maprange": 65_536},
        ]
        with pytest.raises(InvalidRequestError, match=r"oci\.user is for applications"):
            await host.instances.update("web", lambda _: InstanceSettings(config={"oci.user": "1"}))

    play(scenario)


def test_templates_of_the_making_then_those_of_each_start(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, config={"user.x": "y"})
        assert container is not None
        assert container.spec.templates == (
            TemplateFile("/etc/hostname", "web\n", create_only=False),
            TemplateFile("/etc/once", "web\n", create_only=True),
            TemplateFile("/etc/always", "start\n", create_only=False),
            TemplateFile("/etc/once", "web\n", create_only=True),
        )
        (sources, context), _ = host.renderer.asked
        assert [source.name for source in sources] == ["hostname.tpl", "hostname.tpl"]
        assert context["container"] == {
            "name": "web",
            "type": "container",
            "architecture": "x86_64",
            "ephemeral": "false",
            "privileged": "false",
        }
        assert context["config"]["user.x"] == "y"
        assert "eth0" in context["devices"]
        assert host.renderer.asked[1][0][0].properties == {"a": "b"}
        assert "volatile.apply_template" not in host.instances.get("web").record.config
        await host.instances.stop("web", Stop(force=True))
        await host.instances.start("web")
        assert [file.target for file in host.containers.started[-1].spec.templates] == ["/etc/always", "/etc/once"]

    play(scenario)


def test_cloud_init_runs_again_when_its_data_change(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False, config={"user.user-data": "a"})

        async def instance_id_with(**changes: str) -> str:
            def changed(current: Instance) -> InstanceSettings:
                return InstanceSettings(config={**current.record.config, **changes})

            await host.instances.update("web", changed)
            return host.instances.get("web").record.config["volatile.cloud-init.instance-id"]

        first = await instance_id_with(**{"user.other": "b"})
        assert await instance_id_with(**{"user.other": "c"}) == first
        second = await instance_id_with(**{"user.user-data": "b"})
        assert await instance_id_with(**{"cloud-init.user-data": "#cloud-config\n"}) not in (first, second)
        assert second != first

    play(scenario)


def test_what_is_due_stays_due_when_a_start_fails(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        assert host.instances.get("web").record.config["volatile.apply_template"] == "create"
        host.renderer.failure = InvalidRequestError("Cannot render")
        with pytest.raises(InvalidRequestError, match="Cannot render"):
            await host.instances.start("web")
        assert host.instances.get("web").record.config["volatile.apply_template"] == "create"
        assert host.instances.get("web").status is InstanceStatus.STOPPED

    play(scenario)


def test_a_template_that_is_missing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        await host.instances.metadata.delete_template("web", "always.tpl")
        with pytest.raises(InvalidRequestError, match=r'Cannot render template "always.tpl" for /etc/always'):
            await host.instances.start("web")

    play(scenario)


def test_stop_asks_init_as_it_likes_and_again_while_it_is_young(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.started_at = time.time()
        container.halts = 30
        container.ignores = {30}
        stopping = asyncio.create_task(host.instances.stop("web", Stop()))
        while not container.signals:
            await asyncio.sleep(0)
        # It turns out to be systemd.
        container.halts = 37
        await stopping
        assert container.signals == [30, 37]

    play(scenario)


def test_halt_is_no_failure(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.end(HALTED)
        assert (await host.instances.wait("web", 5)).exit == ExitStatus(0, None)
        assert host.instances.get("web").status is InstanceStatus.STOPPED
        assert host.instances.get("web").record.config["volatile.last_state.power"] == "STOPPED"

    play(scenario)


def test_reboot_starts_it_again(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        await started_again(host, await reboot(host, container))
        actions = [action for action, source in host.events if source == "/1.0/instances/web"]
        assert actions == ["instance-created"] + ["instance-started"] + ["instance-started", "instance-restarted"] * 2

    async def reboot(host: Host, container: FakeContainer) -> FakeContainer:
        container.end(REBOOTED)
        again = await started_again(host, container)
        again.end(REBOOTED)
        return again

    play(scenario)


def test_reboot_of_an_ephemeral_one_is_not_its_end(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, ephemeral=True)
        assert container is not None
        container.end(REBOOTED)
        again = await started_again(host, container)
        again.end(HALTED)
        while host.instances.names():
            await asyncio.sleep(0)

    play(scenario)


def test_reboot_that_was_a_stop(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        container.ignores = {37}
        stopping = asyncio.create_task(host.instances.stop("web", Stop()))
        while not container.signals:
            await asyncio.sleep(0)
        container.end(REBOOTED)
        await stopping
        await host.instances.wait("web", 5)
        assert host.instances.get("web").status is InstanceStatus.STOPPED
        assert len(host.containers.started) == 1

    play(scenario)


def test_start_after_a_reboot_fails(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        host.containers.failure = InvalidRequestError("no")
        container.end(REBOOTED)
        await host.instances.wait("web", 5)
        while host.instances.get("web").status is not InstanceStatus.STOPPED:
            await asyncio.sleep(0)
        assert host.instances.get("web").record.config["volatile.last_state.power"] == "STOPPED"
        with pytest.raises(ConflictError):
            await host.instances.stop("web", Stop())

    play(scenario)


def test_reboot_that_no_daemon_saw(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host)
        host.containers.exits["web"] = REBOOTED

    async def second(host: Host) -> None:
        await started_again(host, host.containers.started[0])
        assert len(host.containers.started) == 2

    play(first, second)


def test_an_application_that_is_killed_by_the_same_signal_stays_stopped(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["docker.io/library/app:latest"] = image_documents()
        source = ImageSource(alias="app", protocol="oci")
        wanted = host.instances.reserve(NewInstance("web", source, InstanceSettings()))
        await host.instances.create(replace(wanted, start=True), await host.images.find(source), NoProgress())
        host.containers.started[-1].end(REBOOTED)
        assert (await host.instances.wait("web", 5)).exit == REBOOTED
        assert host.instances.get("web").status is InstanceStatus.STOPPED
        # It keeps nothing of its image, and something can be said of that.
        found = await host.instances.metadata.get("web")
        assert (found.architecture, dict(found.templates)) == (host.instances.get("web").record.architecture, {})
        assert await host.instances.metadata.templates("web") == []

    play(scenario)


def test_metadata_is_the_instances_own(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        kept = host.instances.metadata
        before = await kept.get("web")
        changed = replace(before, templates={"/x": Template(("start",), "x.tpl")})
        await kept.update("web", lambda _: changed)
        assert await kept.get("web") == changed
        await kept.write_template("web", "x.tpl", b"text")
        await kept.write_template("web", "x.tpl", b"other")
        assert await kept.templates("web") == ["always.tpl", "hostname.tpl", "x.tpl"]
        assert await kept.template("web", "x.tpl") == b"other"
        for name in ("", ".", "..", ".hidden", "../metadata.yaml", "a/b", "n\0", "x" * 256):
            with pytest.raises(InvalidRequestError, match="Invalid template name"):
                await kept.template("web", name)
        with pytest.raises(InvalidRequestError, match="more than"):
            await kept.write_template("web", "big", b"x" * (2 << 20))
        outside = Path(host.config.state_dir) / "secret"
        outside.write_text("secret")
        directory = host.config.state_dir / "instances/web/templates"
        (directory / "link").symlink_to(outside)
        assert "link" not in await kept.templates("web")
        with pytest.raises(Exception, match="Cannot read template"):
            await kept.template("web", "link")
        with pytest.raises(NotFoundError):
            await kept.get("other")
        found: Instance = host.instances.get("web")
        assert found.record.config["volatile.apply_template"] == "create"

    play(scenario)
