"""What can't be is refused clearly, with the right status, and leaves nothing behind."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, Failed, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: Daemon) -> Iterator[None]:
    before = contents(daemon)
    yield
    # Deleting moves things out of the way at once, and removes them in the background.
    deadline = time.monotonic() + 10
    while contents(daemon) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert contents(daemon) == before


def contents(daemon: Daemon) -> set[str]:
    roots = (daemon.state_dir / part for part in ("instances", "layers", "blobs/sha256", "ingest"))
    return {str(path) for root in roots if root.exists() for path in root.iterdir()}


def local(registry: ExampleRegistry) -> dict[str, str]:
    return {"type": "image", "alias": f"{registry.host}/example:1"}


@pytest.mark.parametrize("alias", ["nothing:1", "example:none", "example@sha256:" + "0" * 64])
def test_unknown_image(daemon: Daemon, example_registry: ExampleRegistry, alias: str) -> None:
    source = {"type": "image", "protocol": "oci", "server": f"http://{example_registry.host}", "alias": alias}
    for path, body in (("/1.0/images", {"source": source}), ("/1.0/instances", {"name": "x", "source": source})):
        with pytest.raises(Failed) as failed:
            daemon.request("POST", path, body)
        assert failed.value.status == 404
        assert example_registry.host in failed.value.message


def test_unknown_local_image(daemon: Daemon) -> None:
    with pytest.raises(Failed, match="404"):
        daemon.request("POST", "/1.0/instances", {"name": "x", "source": {"type": "image", "alias": "nothing"}})


def test_registry_that_is_not_there(daemon: Daemon) -> None:
    source = {"type": "image", "protocol": "oci", "server": "http://127.0.0.1:9", "alias": "app"}
    with pytest.raises(Failed) as failed:
        daemon.request("POST", "/1.0/images", {"source": source})
    assert failed.value.status == 502
    assert "127.0.0.1:9" in failed.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"name": 5}',
        b'{"source": {"type": "migration", "mode": "pull"}}',
        b'{"source": {"type": "image"}}',
        b'{"source": {"type": "image", "alias": "a"}, "config": {"a": 1}}',
        b'{"name": "bad_name", "source": {"type": "image", "alias": "a"}}',
        b'{"name": "x", "type": "virtual-machine", "source": {"type": "image", "alias": "a"}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_malformed_bodies(daemon: Daemon, body: bytes) -> None:
    response = daemon.http.post("/1.0/instances", content=body)
    assert response.status_code == 400
    envelope = response.json()
    assert (envelope["type"], envelope["error_code"]) == ("error", 400)
    assert envelope["error"]


def test_a_taken_name(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create("web", local(example_registry), start=False)
    with pytest.raises(Failed, match="already exists") as failed:
        daemon.create("web", local(example_registry))
    assert failed.value.status == 409
    daemon.delete("web")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"environment.A": "x\nlxc.hook.start-host = /bin/sh"}, "line break"),
        ({"oci.cwd": "/a\nb"}, "line break"),
        ({"user.x": "a\u0000b"}, "NUL"),
        ({"raw.lxc": "x"}, "Unknown configuration key"),
        ({"oci.uid": "everybody"}, "oci.uid"),
    ],
)
def test_bad_config(daemon: Daemon, example_registry: ExampleRegistry, config: dict[str, str], text: str) -> None:
    with pytest.raises(Failed, match=text) as failed:
        daemon.create("bad", local(example_registry), config=config)
    assert failed.value.status == 400


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"oci.entrypoint": "/no/such/program"}, "/no/such/program"),
        ({"oci.entrypoint": "nonesuch"}, "nonesuch"),
        ({"oci.entrypoint": "/etc"}, "/etc"),
        ({"oci.entrypoint": "/etc/hostname"}, "/etc/hostname"),
        ({"oci.user": "nobody-at-all"}, "nobody-at-all"),
        ({"oci.cwd": "/bin/busybox"}, "/bin/busybox"),
    ],
)
def test_what_the_image_lacks(
    daemon: Daemon, example_registry: ExampleRegistry, config: dict[str, str], text: str
) -> None:
    daemon.create("bad", local(example_registry), start=False, config=config)
    with pytest.raises(Failed, match=text) as failed:
        daemon.act("bad", "start")
    assert failed.value.status == 400
    assert daemon.get("/1.0/instances/bad")["status"] == "Stopped"
    daemon.delete("bad")


def test_wrong_states(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create("web", local(example_registry))
    with pytest.raises(Failed, match="Instance is running") as failed:
        daemon.delete("web")
    assert failed.value.status == 400
    with pytest.raises(Failed, match="already running"):
        daemon.act("web", "start")
    with pytest.raises(Failed, match="Unknown action: 'fly'"):
        daemon.act("web", "fly")
    with pytest.raises(Failed, match="not frozen"):
        daemon.act("web", "unfreeze")
    assert daemon.http.post("/1.0/instances/web/exec", json={"command": []}).status_code == 400
    daemon.act("web", "stop", force=True)
    with pytest.raises(Failed, match="already stopped"):
        daemon.act("web", "stop")
    assert daemon.http.post("/1.0/instances/web/exec", json={"command": ["true"]}).status_code == 400
    daemon.delete("web")


def test_a_command_that_is_not_there(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create("web", local(example_registry))
    with pytest.raises(Failed, match="Command not found"):
        daemon.run("web", "nonesuch")
    with pytest.raises(Failed):
        daemon.run("web", "/etc/hostname")
    daemon.act("web", "stop", force=True)
    daemon.delete("web")


@pytest.mark.parametrize("path", ["/1.0/instances/none", "/1.0/images/none", "/1.0/nothing", "/1.0/operations/x"])
def test_not_found(daemon: Daemon, path: str) -> None:
    with pytest.raises(Failed, match="404"):
        daemon.get(path)


def test_not_offered(daemon: Daemon) -> None:
    with pytest.raises(Failed, match="501"):
        daemon.request("POST", "/1.0/network-acls", {"name": "x"})


def test_no_space(tmp_path: Path, daemon: Daemon, example_registry: ExampleRegistry) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        with Daemon(small / "state") as crowded:
            with pytest.raises(Failed) as failed:
                crowded.pull("example:1", f"http://{example_registry.host}")
            assert failed.value.status == 507
            assert "space" in failed.value.message
            assert crowded.get("/1.0/images") == []
            assert contents(crowded) == set()
    finally:
        subprocess.run(["umount", str(small)], check=True)
