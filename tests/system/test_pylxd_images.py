"""Images with pylxd: brought, changed, named, fetched, made of instances and snapshots."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import lxd_images
from tests.system.daemon import Daemon, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network]

SCRIPT = """
import sys
from pathlib import Path
import pylxd
files = Path(sys.argv[2])
one = (files / "one").read_bytes()
client = pylxd.Client(endpoint=sys.argv[1])

image = client.images.create(one, public=True, wait=True)
assert image.public
assert image.properties["description"] == "a busybox of pylxd"
assert image.export().read() == one
image.add_alias("here", "its name")
assert client.images.get_by_alias("here").fingerprint == image.fingerprint
assert client.images.exists("here", alias=True)
image.properties["os"] = "Busybox"
image.public = False
image.save(wait=True)
image = client.images.get(image.fingerprint)
assert (image.properties["os"], image.public) == ("Busybox", False)
assert image.aliases == [{"name": "here", "description": "its name"}]
image.delete_alias("here")
assert not client.images.exists("here", alias=True)

split = client.images.create((files / "rootfs").read_bytes(), metadata=(files / "meta").read_bytes(), wait=True)
assert split.properties["description"] == "a busybox of pylxd in two"
assert {found.fingerprint for found in client.images.all()} == {image.fingerprint, split.fingerprint}

config = {"name": "made", "source": {"type": "image", "fingerprint": split.fingerprint}}
instance = client.instances.create(config, wait=True)
published = instance.publish(wait=True)
assert published.properties["description"] == "a busybox of pylxd in two"
# Published again within a second it would be the same image.
published.delete(wait=True)
snapshot = instance.snapshots.create("snap", wait=True)
assert snapshot.publish(wait=True).fingerprint
instance.delete(wait=True)
for found in client.images.all():
    found.delete(wait=True)
assert not client.images.exists(image.fingerprint)
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


def test_pylxd(daemon: Daemon, tmp_path: Path) -> None:
    lxd_images.unified(tmp_path / "one", "w:xz", what="pylxd")
    lxd_images.metadata_file(tmp_path / "meta", what="pylxd in two")
    lxd_images.rootfs_tarball(tmp_path / "rootfs")
    # In a process of its own: it leaves sockets open.
    command = (sys.executable, "-W", "ignore", "-c", SCRIPT, str(daemon.socket), str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
