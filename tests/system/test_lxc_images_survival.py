"""A daemon that is killed while it imports or publishes leaves nothing, and what it had acknowledged stays."""

import socket
import time
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


@pytest.fixture
def daemon(nothing_left: None) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


@pytest.fixture
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


def check_nothing_half_done(daemon: Daemon) -> None:
    """What is swept at the start goes in the background."""
    deadline = time.monotonic() + 10
    while left := [
        str(path)
        for part in ("ingest", "layers", "blobs/sha256")
        for path in (daemon.state_dir / part).iterdir()
        if path.name.startswith(".")
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_killed_in_the_middle_of_an_upload(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(
            b"POST /1.0/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 100000000\r\n\r\n" + bytes(5_000_000)
        )
        while not any((daemon.state_dir / "ingest").iterdir()):
            time.sleep(0.01)
        daemon.kill()
    daemon.start()
    check_nothing_half_done(daemon)
    assert daemon.get("/1.0/images") == []


def test_a_client_that_leaves_takes_its_upload_along(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(b"POST /1.0/images HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + bytes(5_000_000))
        while not any((daemon.state_dir / "ingest").iterdir()):
            time.sleep(0.01)
    check_nothing_half_done(daemon)


def test_killed_in_the_middle_of_a_publication(daemon: Daemon, lxc: Lxc, tmp_path: Path) -> None:
    lxc.ok("image", "import", str(lxd_images.unified(tmp_path / "image.tar.gz")), "--alias", "base")
    lxc.ok("init", "base", "web")
    body = {"source": {"type": "instance", "name": "web"}, "compression_algorithm": "xz", "properties": {"a": "b"}}
    for delay_s in (0.0, 0.03, 0.1, 0.3):
        daemon.request("POST", "/1.0/images", body)
        time.sleep(delay_s)
        daemon.kill()
        daemon.start()
        check_nothing_half_done(daemon)
        for image in daemon.get("/1.0/images?recursion=1"):
            # Whatever is listed is whole.
            lxc.ok("image", "export", image["fingerprint"], str(tmp_path / "out"))
            if image["aliases"] == []:
                lxc.ok("image", "delete", image["fingerprint"])
    lxc.ok("publish", "web", "--alias", "again")
    lxc.ok("launch", "again", "copy")
