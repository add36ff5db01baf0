"""LXD images as files, with LXD's own client: import, look, change, export, delete."""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import lxd_images
from tests.system.daemon import Daemon, Failed, place
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


def test_export_gives_back_what_was_imported(lxc: Lxc, daemon: Daemon, files: Path) -> None:
    (out := files / "out").mkdir()
    one = lxd_images.unified(files / "one.tar.xz", "w:xz")
    rootfs = lxd_images.rootfs_tarball(files / "rootfs.tar", "w:")
    squashfs = lxd_images.rootfs_squashfs(files / "rootfs.squashfs", rootfs)
    meta = lxd_images.metadata_file(files / "meta.tar.xz")
    lxc.ok("image", "import", str(one), "--alias", "one")
    lxc.ok("image", "export", "one", f"{out}/")
    fingerprint = fingerprint_of(one)
    assert (out / f"{fingerprint}.tar.xz").read_bytes() == one.read_bytes()
    lxc.ok("image", "export", "one", str(out / "named"))
    assert (out / "named.tar.xz").read_bytes() == one.read_bytes()
    answer = daemon.http.head(f"/1.0/images/{fingerprint}/export")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(one.stat().st_size)
    assert answer.headers["content-disposition"] == f"inline;filename={fingerprint}.tar.xz"
    lxc.ok("image", "import", str(meta), str(squashfs), "--alias", "two")
    lxc.ok("image", "export", "two", f"{out}/")
    fingerprint = fingerprint_of(meta, squashfs)
    assert (out / f"meta-{fingerprint}.tar.xz").read_bytes() == meta.read_bytes()
    assert (out / f"{fingerprint}.squashfs").read_bytes() == squashfs.read_bytes()
    assert "not found" in lxc.fails("image", "export", "three")
    lxc.ok("image", "delete", "one", "two")


def test_show_edit_and_aliases(lxc: Lxc, files: Path) -> None:
    path = lxd_images.unified(files / "image.tar.gz")
    fingerprint = fingerprint_of(path)
    lxc.ok("image", "import", str(path), "--alias", "web")
    info = lxc.ok("image", "info", "web")
    assert f"Fingerprint: {fingerprint}" in info
    assert "Architecture: x86_64" in info
    assert "Created: 2023/11/14 22:13 UTC" in info
    assert "Expires: never" in info
    assert "    os: busybox" in info
    assert "    - web" in info
    assert lxc.yaml("image", "show", fingerprint[:10])["properties"]["release"] == "20.10"
    lxc.ok("image", "set-property", "web", "os", "Busybox")
    assert lxc.ok("image", "get-property", "web", "os") == "Busybox\n"
    lxc.ok("image", "unset-property", "web", "release")
    assert "release" not in lxc.yaml("image", "show", "web")["properties"]
    edited = lxc.ok("image", "show", "web").replace("public: false", "public: true")
    edited = edited.replace('expires_at: "1970-01-01T00:00:00Z"', "expires_at: 2031-02-03T04:05:06Z")
    edited = edited.replace("expires_at: 1970-01-01T00:00:00Z", "expires_at: 2031-02-03T04:05:06Z")
    lxc.ok("image", "edit", "web", stdin=edited.encode())
    (image,) = lxc.json("image", "list")
    assert image["public"] is True
    assert image["expires_at"].startswith("2031-02-03T04:05:06")
    assert image["profiles"] == ["default"]
    assert "no-such" in lxc.fails("image", "edit", "web", stdin=edited.replace("- default", "- no-such").encode())

    lxc.ok("image", "alias", "create", "db", fingerprint[:12])
    lxc.query("/1.0/images/aliases/db", "PATCH", {"description": "the other name"})
    assert "already exists" in lxc.fails("image", "alias", "create", "db", fingerprint)
    lxc.ok("image", "alias", "rename", "db", "dir/db:1")
    names = {alias["name"]: alias for alias in lxc.json("image", "alias", "list")}
    assert set(names) == {"web", "dir/db:1"}
    assert names["dir/db:1"] == {
        "name": "dir/db:1",
        "description": "the other name",
        "target": fingerprint,
        "type": "container",
    }
    lxc.query("/1.0/images/aliases/web", "PATCH", {"description": "changed"})
    assert lxc.query("/1.0/images/aliases/web")["description"] == "changed"
    lxc.query("/1.0/images/aliases/web", "PUT", {"description": "", "target": fingerprint})
    assert lxc.query("/1.0/images/aliases/web")["description"] == ""
    lxc.ok("image", "alias", "delete", "dir/db:1")
    assert "not found" in lxc.fails("image", "alias", "delete", "dir/db:1")
    assert lxc.json("image", "list", "web")[0]["fingerprint"] == fingerprint
    assert lxc.json("image", "list", "os=Busybox")[0]["fingerprint"] == fingerprint
    assert lxc.json("image", "list", "os=debian") == []
    assert fingerprint[:12] in lxc.ok("image", "list", "--format", "csv")
    lxc.ok("image", "delete", fingerprint)
    assert lxc.json("image", "alias", "list") == []


def test_etags(lxc: Lxc, daemon: Daemon, files: Path) -> None:
    path = lxd_images.unified(files / "image.tar.gz", what="etags")
    fingerprint = fingerprint_of(path)
    lxc.ok("image", "import", str(path), "--alias", "web")
    for url, body in (
        (f"/1.0/images/{fingerprint}", {"properties": {"a": "b"}}),
        ("/1.0/images/aliases/web", {"description": "x", "target": fingerprint}),
    ):
        tag = daemon.http.get(url).headers["etag"]
        assert daemon.http.put(url, json=body, headers={"If-Match": tag}).status_code == 200
        assert daemon.http.put(url, json=body, headers={"If-Match": tag}).status_code == 412
        assert daemon.http.patch(url, json=body, headers={"If-Match": tag}).status_code == 412
    image = daemon.get(f"/1.0/images/{fingerprint}")
    assert (image["properties"], image["public"]) == ({"a": "b"}, False)
    assert daemon.http.patch(f"/1.0/images/{fingerprint}", json={"properties": {"c": "d"}}).status_code == 200
    assert daemon.get(f"/1.0/images/{fingerprint}")["properties"] == {"a": "b", "c": "d"}
    lxc.ok("image", "delete", "web")


def test_forms_and_bodies_that_are_wrong(daemon: Daemon, files: Path) -> None:
    meta = lxd_images.metadata_file(files / "meta.tar.xz").read_bytes()
    rootfs = lxd_images.rootfs_tarball(files / "rootfs.tar.gz").read_bytes()

    def post(status: int, **request: object) -> str:
        answer = daemon.http.post("/1.0/images", **request)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        return str(answer.json()["error"])

    assert "expected" in post(400, files={"rootfs": rootfs})
    assert "whole" in post(400, files={"metadata": meta})
    assert "virtual machine" in post(501, files={"metadata": meta, "rootfs.img": rootfs})
    assert "expected" in post(400, files={"metadata": meta, "rootfs": rootfs, "more": b"x"})
    assert "boundary" in post(400, content=b"x", headers={"Content-Type": "multipart/form-data"})
    post(400, content=b"no form", headers={"Content-Type": "multipart/form-data; boundary=abc"})
    assert "import the file" in post(501, json={"source": {"type": "url", "url": "https://x.example/image"}})
    assert "source type" in post(400, json={"source": {"type": "wrong"}})
    assert "nope" in post(404, content=b"x", headers={"X-LXD-profiles": "profile=nope"})
    # Nobody says what it is: it is a file unless it begins as JSON.
    assert "Invalid request body" in post(400, content=b"{}")
    answer = daemon.http.post("/1.0/images", content=b"no image", headers={"X-LXD-fingerprint": "ab"})
    with pytest.raises(Failed, match="Fingerprints don't match"):
        daemon.wait(answer.json())
    assert list((daemon.state_dir / "ingest").iterdir()) == []
    assert json.loads(daemon.http.get("/1.0/images").text)["metadata"] == []
