"""deploy/example_registry.py: a registry as a real client finds it."""

import json
import subprocess
from pathlib import Path

import pytest
from example_image import Image, Pusher, RegistryError
from example_registry import ExampleRegistry

pytestmark = pytest.mark.registry


def test_pushing_again_is_fine(example_registry: ExampleRegistry, example_image: Image) -> None:
    pusher = Pusher(example_registry.host, "again", user=example_registry.user, password=example_registry.password)

    pusher.push(example_image, "1")
    pusher.push(example_image, "1")


def test_nobody_pushes_without_credentials(example_registry: ExampleRegistry, example_image: Image) -> None:
    with pytest.raises(RegistryError, match="401"):
        Pusher(example_registry.host, "refused").push(example_image, "1")


def test_skopeo_copies_the_image(example_registry: ExampleRegistry, example_image: Image, tmp_path: Path) -> None:
    subprocess.run(
        [
            *("skopeo", "copy", "--quiet", "--src-tls-verify=false"),
            *(f"docker://{example_registry.host}/example:1", f"oci:{tmp_path}/layout:1"),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )

    index = json.loads((tmp_path / "layout" / "index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [example_image.manifest.digest]


def test_it_is_gone_when_it_is_left(tmp_path: Path, example_image: Image) -> None:
    with ExampleRegistry(tmp_path) as registry:
        host = registry.host

    with pytest.raises(ConnectionRefusedError):
        Pusher(host, "gone").push(example_image, "1")
