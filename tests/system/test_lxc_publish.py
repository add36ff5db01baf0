"""Images made of instances, with LXD's own client."""

import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.lxd_client,
    pytest.mark.registry,
]


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


CHANGES = """
set -e
echo changed > /etc/motd2
rm /bin/vi
mkdir -p /srv/a/b /srv/empty
echo data > /srv/a/b/file
ln /srv/a/b/file /srv/a/hard
ln -s ../b/file /srv/a/soft
mkfifo /srv/fifo
chown 12:34 /srv/a/b/file
chmod 4711 /srv/a/b/file
touch -d '2001-02-03 04:05:06' /srv/a
"""


def test_publish_an_app(lxc: Lxc, daemon: Daemon, tmp_path: Path) -> None:
    """What an app has written is in the image, and an instance of the image runs what the app ran."""
    lxc.ok("launch", "example", "app")
    lxc.ok("exec", "app", "--", "sh", "-c", CHANGES)
    assert "currently running" in lxc.fails("publish", "app")
    answer = daemon.http.post("/1.0/images", json={"source": {"type": "instance", "name": "app"}})
    assert "running instance" in answer.json()["error"]
    lxc.ok("stop", "app", "--force")
    lxc.ok("config", "set", "app", "oci.entrypoint", "/app/hello published")
    lxc.ok("config", "set", "app", "environment.SECRET", "do not tell")
    said = lxc.ok("publish", "app", "--alias", "mine", "note=of an app", "--expire", "2034-01-01T00:00:00Z")
    fingerprint = lxc.query("/1.0/images/aliases/mine")["target"]
    assert f"Instance published with fingerprint: {fingerprint}" in said
    image = lxc.query(f"/1.0/images/{fingerprint}")
    assert image["properties"]["note"] == "of an app"
    assert image["expires_at"].startswith("2034-01-01")
    lxc.ok("image", "export", "mine", str(tmp_path / "mine"))
    with tarfile.open(tmp_path / "mine.tar.gz") as archive:
        members = {member.name: member for member in archive}
        config = archive.extractfile("oci.json")
        assert config is not None
        assert b"do not tell" not in config.read()
    assert next(iter(members)) == "metadata.yaml"
    assert "rootfs/bin/sh" in members
    assert "rootfs/etc/motd" not in members
    assert "rootfs/bin/vi" not in members
    file = members["rootfs/srv/a/b/file"]
    hard = members["rootfs/srv/a/hard"]
    assert {file.type, hard.type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
    assert (file.mode, file.uid, file.gid) == (0o4711, 12, 34)
    assert members["rootfs/srv/a/soft"].linkname == "../b/file"
    assert members["rootfs/srv/fifo"].isfifo()
    assert members["rootfs/srv/a"].mtime == 981173106
    assert members["rootfs/srv/empty"].isdir()

    lxc.ok("launch", "mine", "copy")
    wait_for(lambda: "hello from" in daemon.console("copy"))
    assert lxc.ok("exec", "copy", "--", "cat", "/srv/a/hard") == "data\n"
    assert lxc.run("exec", "copy", "--", "sh", "-c", 'test -z "$SECRET"').code == 0
    assert "/app/hello" in lxc.ok("exec", "copy", "--", "cat", "/proc/1/cmdline")
    lxc.ok("delete", "-f", "copy")
    # The same files: the image can come back, and still is an app.
    lxc.ok("image", "delete", "mine")
    lxc.ok("image", "import", str(tmp_path / "mine.tar.gz"), "--alias", "again")
    lxc.ok("launch", "again", "copy")
    lxc.ok("delete", "-f", "copy", "app")
    lxc.ok("image", "delete", "again")


@pytest.mark.parametrize("algorithm", ["none", "xz -1", "bzip2", "zstd", "lzma", "gzip -9", "squashfs"])
def test_publish_compressed(lxc: Lxc, daemon: Daemon, algorithm: str) -> None:
    if not any(instance["name"] == "small" for instance in lxc.json("list")):
        lxc.ok("init", "example", "small")
    lxc.ok("publish", "small", "--alias", "it", "--compression", algorithm)
    fingerprint = lxc.query("/1.0/images/aliases/it")["target"]
    root = daemon.state_dir / "layers" / f"i-{fingerprint}" / "fs"
    assert (root / "app/hello").stat().st_mode & 0o777 == 0o755
    assert os.readlink(root / "bin/sh").endswith("busybox")
    lxc.ok("image", "delete", "it")
    if algorithm == "squashfs":
        assert "Invalid compression" in lxc.fails("publish", "small", "--compression", "rot13")
        assert "nothing but a level" in lxc.fails("publish", "small", "--compression", "gzip --rsyncable")
        assert "not found" in lxc.fails("publish", "nothing")
        assert [path for path in (daemon.state_dir / "ingest").iterdir() if path.suffix != ".partial"] == []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_publish_a_snapshot(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("launch", "example", "web")
    lxc.ok("exec", "web", "--", "sh", "-c", "echo one > /root/state")
    lxc.ok("snapshot", "web", "first")
    lxc.ok("exec", "web", "--", "sh", "-c", "echo two > /root/state")
    # What runs can't be published, but its snapshot can.
    lxc.ok("publish", "web/first", "--alias", "first")
    lxc.ok("stop", "web", "--force")
    lxc.ok("publish", "web", "--alias", "second")
    for alias, state in (("first", "one\n"), ("second", "two\n")):
        lxc.ok("launch", alias, "copy")
        assert lxc.ok("exec", "copy", "--", "cat", "/root/state") == state
        lxc.ok("delete", "-f", "copy")
    answer = daemon.http.post("/1.0/images", json={"source": {"type": "snapshot", "name": "web/none"}})
    assert answer.status_code == 404
    answer = daemon.http.post("/1.0/images", json={"source": {"type": "instance", "name": "web/first"}})
    assert answer.status_code == 400
    lxc.ok("image", "delete", "first", "second")
    lxc.ok("delete", "web")
