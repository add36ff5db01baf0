"""Backups of instances: made, listed, expired, and instances made of them."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from lxdpy.drivers.base import Compression, ImageFiles
from lxdpy.errors import ConflictError, InvalidRequestError, LayerError, NotFoundError, UnsupportedError
from lxdpy.progress import NoProgress
from lxdpy.services.instances import NewBackup, NewImport, backup_index
from tests.fakes.drivers import FakeIncoming
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]


async def back_up(host: Host, name: str = "b", **changes: Any) -> None:
    values: dict[str, Any] = {"expires_at": 0.0, "instance_only": False, "compression": Compression("gzip"), **changes}
    await host.instances.backups.create(NewBackup("web", name, **values), NoProgress())


async def exported(host: Host, name: str = "b") -> ImageFiles:
    """A backup's file, as a client sends it."""
    file, _ = await host.instances.backups.open("web", name)
    incoming = FakeIncoming()
    with file:
        await incoming.write(file.read())
    return await incoming.finish()


def files(host: Host) -> list[str]:
    return os.listdir(host.config.state_dir / "backups")


def test_a_backup_outlives_the_daemon_and_goes_with_its_instance(play: Play) -> None:
    async def first(host: Host) -> None:
        await create(host, start=False)
        await back_up(host)
        assert host.instances.backups.next_name("web") == "backup0"
        with pytest.raises(ConflictError):
            await back_up(host)
        (host.config.state_dir / "backups/lost").write_text("")

    async def second(host: Host) -> None:
        (backup,) = host.instances.backups.all("web")
        assert (backup.name, files(host)) == ("b", [backup.file])
        await host.instances.backups.rename("web", "b", "backup7")
        assert host.instances.backups.next_name("web") == "backup8"
        await host.instances.rename("web", "db")

    async def third(host: Host) -> None:
        assert host.instances.backups.get("db", "backup7").instance == "db"
        await host.instances.delete("db")
        assert files(host) == []
        with pytest.raises(NotFoundError):
            host.instances.backups.all("db")

    play(first, second, third)


def test_a_backup_that_expires_is_deleted(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        await back_up(host, expires_at=1.0)
        await back_up(host, "later", expires_at=4_000_000_000.0)

    async def next_daemon(host: Host) -> None:
        while len(host.instances.backups.all("web")) > 1:
            await asyncio.sleep(0.01)
        assert [backup.name for backup in host.instances.backups.all("web")] == ["later"]
        assert len(files(host)) == 1

    play(scenario, next_daemon)


def test_what_fails_leaves_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        host.store.failure = LayerError("no")
        with pytest.raises(LayerError):
            await back_up(host)
        assert (files(host), host.instances.backups.all("web")) == ([], [])
        host.store.failure = None
        await back_up(host)

    play(scenario)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a\nb"])
def test_names_that_can_not_be(play: Play, name: str) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        with pytest.raises(InvalidRequestError):
            await back_up(host, name)

    play(scenario)


def test_an_instance_of_a_backup_runs_what_it_ran(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, config={"user.mine": "1", "oci.cwd": "/tmp"})
        await back_up(host)
        before = host.instances.get("web").record
        name = await host.instances.import_backup(NewImport("default", "again", await exported(host)))
        record = host.instances.get(name).record
        assert (record.config["user.mine"], record.config["oci.cwd"]) == ("1", "/tmp")
        assert record.config["volatile.last_state.power"] == "STOPPED"
        assert record.config_digest == before.config_digest
        assert len(record.layers) == 1
        assert record.layers[0] in host.store.layers
        await host.instances.start("again")
        assert host.containers.started[-1].spec.argv == host.containers.started[0].spec.argv
        with pytest.raises(ConflictError):
            await host.instances.import_backup(NewImport("default", "", await exported(host)))

    play(scenario)


def index_of(**changes: Any) -> bytes:
    container = {
        "name": "c1",
        "architecture": "x86_64",
        "config": {"user.a": "true", "limits.cpu": 2},
        "devices": {"root": {"type": "disk", "path": "/", "pool": "other"}},
        "profiles": ["default"],
        "created_at": "2026-11-27T10:06:55.402654403Z",
    }
    document = {"name": "c1", "type": "container", "config": {"container": {**container, **changes}}}
    return yaml.safe_dump(document).encode()


def test_an_index_is_read_as_the_text_that_it_is() -> None:
    instance = backup_index.parse(index_of()).instance
    assert instance.config == {"user.a": "true", "limits.cpu": "2"}
    assert instance.created_at == pytest.approx(1795774015.402654)
    assert instance.profiles == ("default",)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[", InvalidRequestError),
        (b"text", InvalidRequestError),
        (b"type: virtual-machine", UnsupportedError),
        (b"optimized: true", UnsupportedError),
        (index_of(config=["a"]), InvalidRequestError),
        (index_of(config={"a": ["b"]}), InvalidRequestError),
        (index_of(profiles={"a": "b"}), InvalidRequestError),
        (index_of(devices={"root": "disk"}), InvalidRequestError),
        (b"a: " + b"[" * 100 + b"]" * 100, InvalidRequestError),
        (b"x" * (backup_index.MAX_BYTES + 1), InvalidRequestError),
    ],
)
def test_an_index_that_is_none(data: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        backup_index.parse(data)


def test_a_missing_file_of_a_backup_is_not_found(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        await back_up(host)
        (file,) = files(host)
        os.unlink(host.config.state_dir / "backups" / file)
        with pytest.raises(NotFoundError):
            await host.instances.backups.open("web", "b")

    play(scenario)
