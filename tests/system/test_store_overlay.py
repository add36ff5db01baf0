"""What a container sees: layers from the store under a real overlay mount, and an image from a real registry."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from example_image import Image
from example_registry import ExampleRegistry

from lxdpy.config import Config, RegistryConfig
from lxdpy.drivers.base import LayerRequest, LowerMount
from lxdpy.drivers.registry import RegistryClient
from lxdpy.drivers.store import LayerStore
from lxdpy.linux.remove import remove
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from lxdpy.progress import NoProgress
from tests.fakes.tars import Tar

pytestmark = [pytest.mark.root, pytest.mark.overlay]

# In a process of its own: on older kernels it enters a mount namespace.
SCRIPT = """
import json, os, stat, sys
from lxdpy.drivers.overlay.stack import mount_stack

lowers, rw, scratch = json.loads(sys.argv[1])
root = mount_stack([tuple(lower) for lower in lowers], rw, None, scratch)
found = {}
for directory, _, _, fd in os.fwalk(".", dir_fd=root):
    for name in [".", *os.listdir(fd)]:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        path = os.path.normpath(os.path.join(directory, name))
        if stat.S_ISLNK(status.st_mode):
            what = "-> " + os.readlink(name, dir_fd=fd)
        elif stat.S_ISREG(status.st_mode):
            with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
                what = file.read(40).decode("utf-8", "replace")
        elif stat.S_ISDIR(status.st_mode):
            what = "directory"
        else:
            raise SystemExit(f"{path} is a device")
        found[path] = [oct(stat.S_IMODE(status.st_mode)), status.st_uid, what]
print(json.dumps(found))
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    path.mkdir()
    yield path
    remove(path)


def merged(lowers: Sequence[LowerMount], tmp_path: Path) -> dict[str, tuple[str, int, str]]:
    """Mode, owner and content of all that is seen in the stack, given topmost first."""
    rw, scratch = tmp_path / "rw", tmp_path / "scratch"
    for path in (rw / "upper", rw / "work", scratch):
        path.mkdir(parents=True)
    argument = json.dumps([[(lower.kind, lower.path) for lower in lowers], str(rw), str(scratch)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, argument], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for path in (rw, scratch):
        remove(path)
    return {path: (mode, owner, what) for path, (mode, owner, what) in json.loads(done.stdout).items()}


def stack(state: Path, *tars: Tar) -> dict[str, tuple[str, int, str]]:
    """What is seen of these layers, base first, which the store has as blobs."""
    lowers: tuple[LowerMount, ...] = ()

    async def main() -> None:
        nonlocal lowers
        store = LayerStore(Config(state_dir=state))
        try:
            wanted = []
            for tar in tars:
                data = tar.bytes()
                digest = Digest.of(data)
                store.write_blob(digest, data)
                wanted.append(LayerRequest(Descriptor("layer", digest, len(data)), digest, None))
            layers = await store.materialize(wanted, NoProgress())
            lowers = store.lower_mounts([layer.id for layer in layers[::-1]])
        finally:
            await store.close()

    asyncio.run(main())
    return merged(lowers, state.parent)


def test_whiteouts_and_opaque_directories(state: Path) -> None:
    base = Tar().directory("etc").file("etc/motd", b"hello").file("etc/kept", b"kept").directory("old").file("old/f")
    base.directory("gone").file("gone/f").directory("again", mode=0o700).file("again/old")
    upper = Tar().directory("etc").file("etc/.wh.motd").directory("old").file("old/.wh..wh..opq").file("old/new", b"n")
    upper.file(".wh.gone").file(".wh.again").directory("again").file("again/new", b"n")
    seen = stack(state, base, upper)
    assert sorted(seen) == [".", "again", "again/new", "etc", "etc/kept", "old", "old/new"]
    assert seen["again"][0] == "0o755"


def test_parents_and_links_of_lower_layers(state: Path) -> None:
    base = Tar().directory("usr", mode=0o711).directory("usr/lib", mode=0o750, uid=7).symlink("lib", "usr/lib")
    base.file("usr/lib/libc", b"libc", uid=3)
    upper = Tar().file("lib/libfoo", b"foo").file("lib/.wh.libc").hardlink("libc-copy", "lib/libc")
    seen = stack(state, base, upper, Tar().file("usr/lib/libbar", b"bar"))
    assert seen["lib"][2] == "-> usr/lib"
    assert seen["usr"] == ("0o711", 0, "directory")
    assert seen["usr/lib"] == ("0o750", 7, "directory")
    assert seen["usr/lib/libfoo"][2] == "foo"
    assert seen["usr/lib/libbar"][2] == "bar"
    assert seen["libc-copy"][1:] == (3, "libc")
    assert "usr/lib/libc" not in seen


def test_opaque_root(state: Path) -> None:
    base = Tar().file("f").directory("d").file("d/old").directory("e")
    seen = stack(state, base, Tar().file(".wh..wh..opq").directory("d").file("d/new", b"n").file("g", b"g"))
    assert sorted(seen) == [".", "d", "d/new", "g"]


def test_one_layer_twice(state: Path) -> None:
    once, between = Tar().file("f", b"once"), Tar().file(".wh.f").file("g", b"g")
    seen = stack(state, once, between, once)
    assert seen["f"][2] == "once"
    assert seen["g"][2] == "g"


@pytest.mark.registry
def test_image_of_a_real_registry(state: Path, example_registry: ExampleRegistry, example_image: Image) -> None:
    host = example_registry.host
    settings = Config(state_dir=state, registries={host: RegistryConfig(plain_http=True)})
    lowers: tuple[LowerMount, ...] = ()

    async def main() -> None:
        nonlocal lowers
        store, client = LayerStore(settings), RegistryClient(settings)
        try:
            reference = Reference.parse(f"{host}/example:1")
            image = await client.resolve(reference, Platform.host(), cached=store.read_blob)
            layers = await store.materialize(
                [
                    LayerRequest(descriptor, diff_id, client.blob_source(image, descriptor))
                    for descriptor, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
                ],
                NoProgress(),
            )
            lowers = store.lower_mounts([layer.id for layer in layers[::-1]])
        finally:
            await store.close()
            await client.aclose()

    asyncio.run(main())
    assert len(lowers) == len(example_image.layers)
    seen = merged(lowers, state.parent)
    assert seen["app/hello"][:2] == ("0o755", 0)
    assert "bin/busybox" in seen
    assert "etc" in seen
    assert "etc/motd" not in seen
