"""What everybody does first with LXD's client: look, launch, run, stop, delete."""

import os
from collections.abc import Iterator

import pytest
from example_registry import ExampleRegistry

import lxdpy
from tests.system.daemon import Daemon, Failed, place
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


def test_resources(lxc: Lxc) -> None:
    shown = lxc.ok("info", "--resources")
    assert f"CPU ({os.uname().machine}):" in shown
    assert "Memory:" in shown
    resources = lxc.query("/1.0/resources")
    assert resources["cpu"]["total"] == os.cpu_count()
    assert resources["memory"]["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_single_host_has_no_cluster_no_warnings_no_certificates(lxc: Lxc) -> None:
    assert lxc.query("/1.0/cluster") == {"server_name": "", "enabled": False, "member_config": []}
    assert "clustering" in lxc.fails("cluster", "list")
    assert lxc.json("warning", "list") == []
    assert "Warning not found" in lxc.fails("warning", "ack", "8d8d7c4e-0000-4000-8000-000000000000")
    assert lxc.json("config", "trust", "list") == []


def test_what_is_not_offered_says_why(lxc: Lxc, daemon: Daemon) -> None:
    assert "does not cluster" in lxc.fails("query", "/1.0/cluster/members")
    with pytest.raises(Failed) as failure:
        daemon.request("POST", "/1.0/network-acls", {"name": "web"})
    assert failure.value.status == 501
    assert "access control lists" in failure.value.message
