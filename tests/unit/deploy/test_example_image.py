"""deploy/example_image.py: what is in the image."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from example_image import Blob, build

BUSYBOX = Path("/bin/busybox")

pytestmark = pytest.mark.registry


def _names(layer: Blob) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(layer.data)) as archive:
        return archive.getnames()


def test_building_twice_gives_the_same_bytes() -> None:
    assert build() == build()


def test_manifest_and_config_describe_the_layers() -> None:
    image = build()

    manifest = json.loads(image.manifest.data)
    config = json.loads(image.config.data)

    assert [entry["digest"] for entry in manifest["layers"]] == [layer.digest for layer in image.layers]
    assert manifest["config"] == image.config.descriptor
    tars = [gzip.decompress(layer.data) for layer in image.layers]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    assert len(config["history"]) == len(image.layers) == 3


def test_the_layers_are_base_application_and_whiteout() -> None:
    base, application, whiteout = (_names(layer) for layer in build().layers)

    assert {"bin/busybox", "bin/sh", "etc/motd", "tmp"} <= set(base)
    assert application == ["app", "app/hello"]
    assert whiteout == ["etc/.wh.motd"]


def test_what_is_no_busybox_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "busybox"
    other.write_text("#!/bin/sh\nexit 3\n", encoding="ascii")
    other.chmod(0o755)

    with pytest.raises(RuntimeError, match="is no static busybox"):
        build(other)
