"""What everybody does first with LXD's client: look, launch, run, stop, delete."""

from collections.abc import Iterator

import pytest
from example_registry import ExampleRegistry

import lxdpy
from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
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


def test_version_info_and_query(lxc: Lxc, daemon: Daemon) -> None:
    assert f"Server version: {lxdpy.__version__}" in lxc.ok("version")
    info = lxc.yaml("info")
    assert info["environment"]["server"] == "lxdpy"
    assert info["environment"]["server_pid"] == daemon.pid
    assert lxc.query("/1.0")["api_version"] == "1.0"
    assert "Error: not found" in lxc.fails("query", "/1.0/nothing")


def test_launch_exec_stop_delete(lxc: Lxc) -> None:
    lxc.ok("launch", "example", "web")
    (web,) = lxc.json("list")
    assert (web["name"], web["status"], web["type"]) == ("web", "Running", "container")
    assert web["state"]["network"]["eth0"]["addresses"]
    assert lxc.ok("exec", "web", "--", "echo", "hello") == "hello\n"
    assert lxc.run("exec", "web", "--", "sh", "-c", "exit 7").code == 7
    lxc.ok("stop", "web", "--force")
    lxc.ok("start", "web")
    lxc.ok("pause", "web")
    assert lxc.json("list")[0]["status"] == "Frozen"
    lxc.ok("start", "web")
    lxc.ok("restart", "web", "--force")
    assert "currently running" in lxc.fails("delete", "web")
    lxc.ok("delete", "web", "--force")
    assert lxc.json("list") == []
