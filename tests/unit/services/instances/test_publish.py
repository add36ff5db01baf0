"""Images made of instances: what goes along, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lxdpy import image_metadata
from lxdpy.drivers.base import Compression
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.progress import NoProgress
from lxdpy.services.images import ImageDetails
from lxdpy.services.instances import Publication, Stop
from lxdpy.services.instances.publish import committed
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]


def publication(name: str = "web", **details: object) -> Publication:
    return Publication(name, False, ImageDetails(**details), Compression("gzip"))  # type: ignore[arg-type]


def test_an_app_is_published_with_what_it_runs(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        host.store.directory = tmp_path
        await create(host, config={"oci.cmd": "serve --fast", "environment.SECRET": "x"}, start=False)
        base = host.instances.get("web").record
        image = await host.instances.publisher.publish(
            publication(aliases={"mine": ""}, properties={"os": "own"}), NoProgress()
        )
        (spec,) = host.store.packed
        assert spec.layers == base.layers
        assert spec.upper == host.config.state_dir / "instances/web" / base.rw / "upper"
        assert image_metadata.parse(spec.metadata).properties == {"os": "own"}
        assert image.config_digest is not None
        assert image.config_digest != base.config_digest
        config = host.images.config(image.config_digest)
        assert config.cmd == ("serve", "--fast")
        assert not any("SECRET" in entry for entry in config.env)
        assert host.images.lookup("mine") == image

    play(scenario)


def test_without_properties_it_has_those_of_its_image(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        host.store.directory = tmp_path
        await create(host, start=False)
        image = await host.instances.publisher.publish(publication(expires_at=1_900_000_000.0), NoProgress())
        assert image.properties["os"] == "linux"
        assert "type" not in image.properties
        assert image.expires_at == 1_900_000_000

    play(scenario)


def test_what_runs_is_not_published(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        host.store.directory = tmp_path
        await create(host)
        with pytest.raises(InvalidRequestError, match="running instance"):
            await host.instances.publisher.publish(publication(), NoProgress())
        with pytest.raises(NotFoundError):
            host.instances.publisher.check(publication("other"))
        await host.instances.stop("web", Stop(force=True))
        await host.instances.publisher.publish(publication(aliases={"mine": ""}), NoProgress())
        with pytest.raises(ConflictError):
            await host.instances.publisher.publish(publication(aliases={"mine": ""}), NoProgress())

    play(scenario)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"Entrypoint": ["/e"], "Cmd": ["c"], "User": "u:g"}),
        ({"oci.entrypoint": "/new 'a b'"}, {"Entrypoint": ["/new", "a b"], "Cmd": [], "User": "u:g"}),
        ({"oci.entrypoint": "/n", "oci.cmd": "x"}, {"Entrypoint": ["/n"], "Cmd": ["x"], "User": "u:g"}),
        ({"oci.cmd": "x y"}, {"Entrypoint": ["/e"], "Cmd": ["x", "y"], "User": "u:g"}),
        ({"oci.uid": "5"}, {"Entrypoint": ["/e"], "Cmd": ["c"], "User": "5"}),
        (
            {"oci.cwd": "/w", "oci.stop_signal": "SIGQUIT"},
            {"Entrypoint": ["/e"], "Cmd": ["c"], "User": "u:g", "WorkingDir": "/w", "StopSignal": "SIGQUIT"},
        ),
    ],
)
def test_an_instances_own_keys_are_written_into_the_config(config: dict[str, str], expected: object) -> None:
    image = {
        "config": {"Entrypoint": ["/e"], "Cmd": ["c"], "User": "u:g"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]},
        "history": [{}],
    }
    assert json.loads(committed(json.dumps(image).encode(), config)) == {
        "config": expected,
        "rootfs": {"type": "layers", "diff_ids": []},
    }
