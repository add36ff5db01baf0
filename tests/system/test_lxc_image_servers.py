"""Image servers (simplestreams) with LXD's own client: launched from, copied, kept up to date, expired."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pylxd
import pytest

from tests.fakes import certificates
from tests.fakes.certificates import Certificates
from tests.fakes.simplestreams import ImageServer, Version
from tests.system.daemon import Daemon, Json, place
from tests.system.lxc import Lxc

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.lxd_client,
]

OLD, NEW = Version("20260101_0100"), Version("20260102_0100")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certs: Certificates) -> Iterator[ImageServer]:
    with ImageServer(tmp_path_factory.mktemp("www"), certs) as running:
        running.publish("busybox", OLD, aliases="busybox,busybox/1")
        running.publish("tarball", Version("20260101", forms=("root.tar.xz",)))
        yield running


@pytest.fixture(scope="module")
def daemon(certs: Certificates) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state", environment={"SSL_CERT_FILE": str(certs.ca)}) as running:
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon, server: ImageServer, certs: Certificates) -> Lxc:
    client = Lxc(daemon.state_dir, daemon.state_dir.parent / "home")
    client.environment["SSL_CERT_FILE"] = str(certs.ca)
    client.ok("remote", "remove", "images")
    client.ok("remote", "add", "images", server.url, "--protocol=simplestreams")
    return client


@pytest.fixture(autouse=True)
def clean(daemon: Daemon, server: ImageServer) -> Iterator[None]:
    server.publish("busybox", OLD, aliases="busybox,busybox/1")
    yield
    for url in daemon.get("/1.0/instances"):
        if daemon.get(url)["status"] != "Stopped":
            daemon.act(url.rpartition("/")[2], "stop", force=True)
        daemon.wait(daemon.request("DELETE", url))
    for url in daemon.get("/1.0/images"):
        daemon.wait(daemon.request("DELETE", url))
    daemon.put("/1.0", {"config": {}})


def images(daemon: Daemon) -> list[Json]:
    found: list[Json] = daemon.get("/1.0/images?recursion=1")
    return found


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_launch(lxc: Lxc, daemon: Daemon, server: ImageServer) -> None:
    output = lxc.ok("launch", "images:busybox/1", "c1")
    assert "rootfs: 100%" in output
    (image,) = images(daemon)
    assert (image["cached"], image["auto_update"], image["public"]) == (True, True, False)
    assert image["update_source"] == {
        "alias": "busybox/1",
        "certificate": "",
        "image_type": "container",
        "protocol": "simplestreams",
        "server": server.url,
    }
    assert image["properties"]["description"] == "Busybox 1 amd64 (20260101_0100)"
    # The client reads the server's index by itself: both understand it in the same way.
    assert lxc.yaml("image", "info", "images:busybox/1")["Fingerprint"] == image["fingerprint"]
    assert lxc.ok("exec", "c1", "--", "cat", "/etc/version") == "busybox 20260101_0100\n"
    config = daemon.get("/1.0/instances/c1")["config"]
    assert config["image.os"] == "Busybox"
    assert config["volatile.base_image"] == image["fingerprint"]
    # The image is here, and kept up to date: nobody is asked.
    server.requests.clear()
    lxc.ok("init", "images:busybox/1", "c2")
    assert server.requests == []


def test_a_root_file_system_in_a_tarball(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("launch", "images:tarball", "c1")
    assert lxc.ok("exec", "c1", "--", "cat", "/etc/version") == "tarball 20260101\n"
    assert images(daemon)[0]["properties"]["type"] == "root.tar.xz"


def test_copy_with_aliases_and_refresh(lxc: Lxc, daemon: Daemon, server: ImageServer) -> None:
    lxc.ok("image", "copy", "images:busybox/1", "local:", "--alias", "bb", "--auto-update", "--copy-aliases")
    (old,) = images(daemon)
    assert (old["cached"], old["auto_update"]) == (False, True)
    names = ["bb", "busybox", "busybox/1", "busybox/1/amd64", "busybox/amd64"]
    assert [alias["name"] for alias in old["aliases"]] == names
    assert "already up to date" in lxc.ok("image", "refresh", "bb")
    server.publish("busybox", OLD, NEW, aliases="busybox,busybox/1")
    assert "refreshed successfully" in lxc.ok("image", "refresh", "bb")
    (new,) = images(daemon)
    assert new["fingerprint"] != old["fingerprint"]
    assert new["properties"]["serial"] == NEW.serial
    assert [alias["name"] for alias in new["aliases"]] == names
    lxc.ok("launch", "bb", "c1")
    assert lxc.ok("exec", "c1", "--", "cat", "/etc/version") == "busybox 20260102_0100\n"


def test_auto_update_and_expiry_by_the_daemon_itself(lxc: Lxc, daemon: Daemon, server: ImageServer) -> None:
    lxc.ok("launch", "images:busybox/1", "c1")
    (old,) = images(daemon)
    server.publish("busybox", OLD, NEW, aliases="busybox,busybox/1")
    # A new interval has it look at once.
    lxc.ok("config", "set", "images.auto_update_interval", "12")
    until(lambda: [image["fingerprint"] for image in images(daemon)] not in ([old["fingerprint"]], []))
    until(lambda: len(images(daemon)) == 1)
    (new,) = images(daemon)
    assert (new["cached"], new["auto_update"]) == (True, True)
    assert new["properties"]["serial"] == NEW.serial
    # The instance of the old image is as it was.
    lxc.ok("restart", "c1", "--force")
    assert lxc.ok("exec", "c1", "--", "cat", "/etc/version") == "busybox 20260101_0100\n"
    lxc.ok("config", "set", "images.remote_cache_expiry", "0")
    until(lambda: images(daemon) == [])
    lxc.ok("restart", "c1", "--force")
    assert lxc.ok("exec", "c1", "--", "cat", "/etc/version") == "busybox 20260101_0100\n"


def test_an_old_version_by_its_fingerprint(lxc: Lxc, daemon: Daemon, server: ImageServer) -> None:
    fingerprint = lxc.yaml("image", "info", "images:busybox/1")["Fingerprint"]
    server.publish("busybox", OLD, NEW, aliases="busybox,busybox/1")
    lxc.ok("init", f"images:{fingerprint[:12]}", "c1")
    (image,) = images(daemon)
    assert (image["fingerprint"], image["auto_update"]) == (fingerprint, False)


def test_a_broken_download_goes_on(lxc: Lxc, daemon: Daemon, server: ImageServer) -> None:
    path = "/images/busybox/amd64/20260101_0100/rootfs.squashfs"
    server.cut[path] = 600_000
    server.requests.clear()
    lxc.ok("init", "images:busybox/1", "c1")
    assert f"{path} bytes=600000-" in server.requests


@pytest.mark.filterwarnings("ignore:Attempted to set unknown attribute:UserWarning")
def test_pylxd(lxc: Lxc, daemon: Daemon, server: ImageServer) -> None:
    client = pylxd.Client(endpoint=str(daemon.socket))
    assert client.host_info["config"] == {}
    assert not client.images.exists("alpine/3.20", alias=True)
    image = client.images.create_from_simplestreams(server.url, "busybox", auto_update=True)
    assert (image.auto_update, image.cached, image.update_source["server"]) == (True, False, server.url)
    image.delete(wait=True)
    source = {"type": "image", "mode": "pull", "protocol": "simplestreams", "server": server.url, "alias": "busybox/1"}
    instance = client.instances.create({"name": "c1", "source": source}, wait=True)
    instance.start(wait=True)
    client.api.session.close()
    assert lxc.ok("exec", "c1", "--", "cat", "/etc/version") == "busybox 20260101_0100\n"


SQUASHFS = "/images/busybox/amd64/20260101_0100/rootfs.squashfs"


def download(daemon: Daemon, server: ImageServer) -> Json:
    """A download that has come half-way; its operation."""
    server.requests.clear()
    source = {"type": "image", "protocol": "simplestreams", "server": server.url, "alias": "busybox"}
    envelope = daemon.request("POST", "/1.0/images", {"source": source})
    until(lambda: any(path.stat().st_size == 500_000 for path in (daemon.state_dir / "ingest").glob("*.partial")))
    return envelope


def test_a_download_is_cancelled_and_the_next_goes_on(daemon: Daemon, server: ImageServer) -> None:
    server.stall[SQUASHFS] = 500_000
    operation = download(daemon, server)["operation"]
    until(lambda: "rootfs: " in daemon.get(operation)["metadata"]["download_progress"])
    daemon.request("DELETE", operation)
    assert daemon.get(operation)["status"] == "Cancelled"
    assert images(daemon) == []
    server.go_on.set()
    server.stall.clear()
    source = {"type": "image", "protocol": "simplestreams", "server": server.url, "alias": "busybox"}
    daemon.wait(daemon.request("POST", "/1.0/images", {"source": source}))
    server.go_on.clear()
    assert f"{SQUASHFS} bytes=500000-" in server.requests
    assert len(images(daemon)) == 1


def test_a_daemon_that_is_killed_meanwhile(server: ImageServer, certs: Certificates) -> None:
    environment = {"SSL_CERT_FILE": str(certs.ca)}
    with place() as directory, Daemon(directory / "state", environment=environment) as daemon:
        server.stall[SQUASHFS] = 500_000
        download(daemon, server)
        daemon.kill()
        server.go_on.set()
        server.stall.clear()
        daemon.start()
        assert images(daemon) == []
        source = {"type": "image", "protocol": "simplestreams", "server": server.url, "alias": "busybox"}
        daemon.wait(daemon.request("POST", "/1.0/images", {"source": source}))
        server.go_on.clear()
        # The worker may have got some more before it learnt of the daemon's end.
        assert any(request.startswith(f"{SQUASHFS} bytes=") for request in server.requests)
        assert list((daemon.state_dir / "ingest").iterdir()) == []
        assert len(images(daemon)) == 1


def test_what_fails_says_why_and_leaves_nothing(lxc: Lxc, daemon: Daemon, server: ImageServer, tmp_path: Path) -> None:
    assert "has no image" in lxc.fails("launch", "images:nothing", "c1")
    assert "only containers" in lxc.fails("image", "copy", "images:busybox", "local:", "--vm")
    assert "virtual-machine" in lxc.fails("launch", "images:busybox", "c1", "--vm")
    server.publish("lying", Version("20260101", changes={"sha256": "0" * 64}))
    assert "another digest" in lxc.fails("launch", "images:lying", "c1")
    server.publish("other", Version("20260101", changes={"combined_squashfs_sha256": "0" * 64}))
    assert "fingerprint" in lxc.fails("launch", "images:other", "c1")
    server.publish("foreign", OLD, arch="s390x")
    assert "s390x" in lxc.fails("launch", "images:foreign", "c1")
    other = certificates.make(tmp_path)
    with ImageServer(tmp_path, other) as stranger:
        stranger.publish("busybox", OLD)
        source = {"type": "image", "mode": "pull", "protocol": "simplestreams", "alias": "busybox"}
        source["server"] = stranger.url
        response = daemon.http.post("/1.0/images", json={"source": source})
        assert (response.status_code, "CERTIFICATE" in response.text) == (502, True)
        source["certificate"] = other.server.read_text()
        daemon.wait(daemon.request("POST", "/1.0/images", {"source": source, "aliases": [{"name": "theirs"}]}))
    assert [alias["name"] for alias in images(daemon)[0]["aliases"]] == ["theirs"]
    assert images(daemon)[0]["update_source"]["certificate"] == source["certificate"]
    assert daemon.get("/1.0/instances") == []
    response = daemon.http.post("/1.0/images", json={"source": {**source, "server": "http://images.example"}})
    assert (response.status_code, "expected https" in response.text) == (400, True)
    assert list((daemon.state_dir / "ingest").iterdir()) == []
