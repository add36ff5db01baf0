"""LXD images as files, with LXD's own client: import, look, change, export, publish, delete."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import lxd_images
from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.lxd_client,
]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path


def fingerprint_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def check_rootfs(daemon: Daemon, fingerprint: str) -> None:
    """What was unpacked is what the image holds, to the bit."""
    directory = daemon.state_dir / "layers" / f"i-{fingerprint}"
    root = directory / "fs"
    assert (root / "bin/busybox").read_bytes() == lxd_images.BUSYBOX.read_bytes()
    assert os.readlink(root / "bin/sh") == "busybox"
    assert (root / "sbin/init").stat().st_ino == (root / "bin/busybox").stat().st_ino
    hostname = (root / "etc/hostname").stat()
    assert (hostname.st_uid, hostname.st_gid, hostname.st_mode & 0o7777, hostname.st_mtime) == (
        7,
        8,
        0o600,
        lxd_images.MTIME,
    )
    assert (root / "etc/.wh.kept").read_bytes() == b"no whiteout\n"
    assert (root / "etc/.wh..wh..opq").exists()
    assert (root / "etc/sudo").stat().st_mode & 0o7777 == 0o4755
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert os.makedev(1, 3) == (root / "dev/null").stat().st_rdev
    assert stat.S_ISFIFO((root / "run/fifo").stat().st_mode)
    assert os.getxattr(root / "bin/ping", "security.capability") == lxd_images.CAPABILITY
    assert (directory / "templates/hostname.tpl").read_bytes() == lxd_images.TEMPLATE
    assert sorted(os.listdir(directory)) == ["fs", "meta.json", "metadata.yaml", "templates"]


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_import_a_unified_tarball(lxc: Lxc, daemon: Daemon, files: Path, compression: str) -> None:
    name = f"image.tar.{compression}"
    path = lxd_images.unified(files / name, f"w:{compression}", what=f"a {compression}:tar")
    said = lxc.ok("image", "import", str(path), "--alias", "one", "user.note=a & b=c", "--public")
    fingerprint = fingerprint_of(path)
    assert f"Image imported with fingerprint: {fingerprint}" in said
    check_rootfs(daemon, fingerprint)
    (image,) = lxc.json("image", "list")
    assert image["fingerprint"] == fingerprint
    assert (image["type"], image["public"], image["filename"]) == ("container", True, name)
    assert (image["architecture"], image["size"]) == ("x86_64", path.stat().st_size)
    assert image["properties"] == {
        "description": f"a busybox of a {compression}:tar",
        "os": "busybox",
        "release": "20.10",
        "user.note": "a & b=c",
    }
    assert image["created_at"].startswith("2023-11-14T22:13:20")
    assert [alias["name"] for alias in image["aliases"]] == ["one"]
    assert "already exists" in lxc.fails("image", "import", str(path))
    lxc.ok("image", "delete", "one")
    assert lxc.json("image", "list") == []
    assert not (daemon.state_dir / "layers" / f"i-{fingerprint}").exists()
    assert list((daemon.state_dir / "ingest").iterdir()) == []


def test_import_zstd_lzma_and_split_images(lxc: Lxc, daemon: Daemon, files: Path) -> None:
    plain = lxd_images.unified(files / "plain.tar", "w:", what="lzma")
    subprocess.run(["xz", "--format=lzma", "-k", "-0", str(plain)], check=True)
    rootfs = lxd_images.rootfs_tarball(files / "rootfs.tar", "w:")
    squashfs = lxd_images.rootfs_squashfs(files / "rootfs.squashfs", rootfs)
    whole = lxd_images.rootfs_squashfs(files / "whole.squashfs", plain)
    meta = lxd_images.metadata_file(files / "meta.tar.xz")
    for paths in ((files / "plain.tar.lzma",), (meta, rootfs), (meta, squashfs), (whole,)):
        lxc.ok("image", "import", *map(str, paths), "--alias", "it")
        fingerprint = fingerprint_of(*paths)
        (image,) = lxc.json("image", "list")
        assert image["fingerprint"] == fingerprint
        assert image["size"] == sum(path.stat().st_size for path in paths)
        assert image["filename"] == paths[-1].name
        check_rootfs(daemon, fingerprint)
        lxc.ok("image", "delete", "it")


def test_what_is_no_image_is_refused(lxc: Lxc, daemon: Daemon, files: Path) -> None:
    (files / "text").write_bytes(b"this is no image\n" * 100)
    lxc.fails("image", "import", str(files / "text"))
    (files / "empty").write_bytes(b"")
    lxc.fails("image", "import", str(files / "empty"))
    rootfs = lxd_images.rootfs_tarball(files / "rootfs.tar")
    assert "no metadata.yaml" in lxc.fails("image", "import", str(rootfs))
    meta = lxd_images.metadata_file(files / "meta.tar.xz")
    assert "no rootfs" in lxc.fails("image", "import", str(meta))
    damaged = lxd_images.rootfs_tarball(files / "rootfs.tar.gz")
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    lxc.fails("image", "import", str(meta), str(damaged))
    squashfs = files / "rootfs.squashfs"
    squashfs.write_bytes(b"hsqs" + bytes(5000))
    assert "squashfs" in lxc.fails("image", "import", str(meta), str(squashfs))
    assert lxc.json("image", "list") == []
    assert list((daemon.state_dir / "ingest").iterdir()) == []
    assert [path for path in (daemon.state_dir / "layers").iterdir() if path.name.startswith("i-")] == []
    assert list((daemon.state_dir / "blobs/sha256").iterdir()) == []
