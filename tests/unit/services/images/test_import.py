"""Images that come as files: what is recorded of them, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lxdpy.db.images import ImageKind
from lxdpy.drivers.base import ImageFile, ImageFiles
from lxdpy.errors import ConflictError, InvalidRequestError, LayerError
from lxdpy.oci.digest import Digest
from lxdpy.services.images import ImageDetails
from tests.unit.services.conftest import Host

Play = Callable[..., None]

METADATA = """\
architecture: amd64
creation_date: 1700000000
expiry_date: 1800000000
properties: {os: busybox, release: 20.10}
"""


def files(directory: Path, **contents: str) -> ImageFiles:
    """An image file, for a fake store to unpack."""
    data = json.dumps({"metadata.yaml": METADATA, **{name.replace("_", "."): text for name, text in contents.items()}})
    path = directory / "image"
    path.write_text(data)
    digest = Digest.of(data.encode())
    return ImageFiles(digest.hex, ImageFile(digest, len(data), path))


def test_an_image_is_recorded_as_its_metadata_and_its_bringer_say(play: Play, tmp_path: Path) -> None:
    async def first(host: Host) -> None:
        host.store.directory = tmp_path
        details = ImageDetails(
            filename="a.tar", public=True, properties={"os": "mine"}, aliases={"it": "text"}, expires_at=None
        )
        image = await host.images.import_files(files(tmp_path), details)
        assert host.store.held == []
        assert ("image-created", f"/1.0/images/{image.fingerprint}") in host.events
        assert ("image-alias-created", "/1.0/images/aliases/it") in host.events

    async def second(host: Host) -> None:
        (image,) = host.images.all()
        assert (image.kind, image.config_digest, image.protocol) == (ImageKind.LXD, None, "")
        assert (image.architecture, image.filename, image.public) == ("x86_64", "a.tar", True)
        assert image.properties == {"os": "mine", "release": "20.10"}
        assert (image.created_at, image.expires_at) == (1_700_000_000, 1_800_000_000)
        assert image.layers == (f"i-{image.fingerprint}",)
        assert host.images.lookup("it") == image
        assert host.images.metadata_directory(image.fingerprint) == host.store.images[image.fingerprint]
        await host.images.delete(image.fingerprint)
        assert host.store.layers == {}
        assert host.store.blobs == {}

    play(first, second)


def test_what_can_not_be_imported_leaves_nothing(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        host.store.directory = tmp_path
        with pytest.raises(InvalidRequestError, match="Fingerprints don't match"):
            await host.images.import_files(files(tmp_path), ImageDetails(fingerprint="ab"))
        with pytest.raises(InvalidRequestError, match="line break"):
            await host.images.import_files(files(tmp_path), ImageDetails(properties={"a\nb": "c"}))
        host.store.failure = LayerError("no image")
        with pytest.raises(LayerError):
            await host.images.import_files(files(tmp_path), ImageDetails())
        host.store.failure = None
        config = json.dumps({"config": {"Env": ["A=b\nlxc.x=y"]}, "rootfs": {"type": "layers"}})
        with pytest.raises(InvalidRequestError, match="line break"):
            await host.images.import_files(files(tmp_path, oci_json=config), ImageDetails())
        assert host.images.all() == []
        assert host.store.held == []
        await host.images.import_files(files(tmp_path), ImageDetails(aliases={"it": ""}))
        with pytest.raises(ConflictError, match="Image with same fingerprint already exists"):
            await host.images.import_files(files(tmp_path), ImageDetails())
        with pytest.raises(ConflictError, match="Alias already exists: it"):
            await host.images.import_files(files(tmp_path, other="x"), ImageDetails(aliases={"it": ""}))

    play(scenario)


def test_an_app_keeps_what_it_runs(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        host.store.directory = tmp_path
        config = json.dumps({"config": {"Entrypoint": ["/hello"]}, "rootfs": {"type": "layers"}})
        image = await host.images.import_files(files(tmp_path, oci_json=config), ImageDetails())
        assert image.config_digest == Digest.of(config.encode())
        assert host.images.config(image.config_digest).entrypoint == ("/hello",)
        await host.images.garbage.collect()
        assert set(host.store.blobs) == set(image.blobs)

    play(scenario)


def test_a_layer_that_a_power_cut_took_is_unpacked_from_the_files(play: Play, tmp_path: Path) -> None:
    async def scenario(host: Host) -> None:
        host.store.directory = tmp_path
        image = await host.images.import_files(files(tmp_path), ImageDetails())
        host.store.layers.clear()
        await host.images.ensure_layers(image)
        assert list(host.store.layers) == list(image.layers)
        assert host.store.held == []

    play(scenario)
