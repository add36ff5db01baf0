"""The main job with everything real: registry, kernel, liblxc, network; over the API as curl would use it."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import BRIDGE, GATEWAY, Daemon, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]

LOCAL = {"type": "image", "alias": "example"}


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture
def web(daemon: Daemon) -> Iterator[Daemon]:
    daemon.create("web", LOCAL)
    yield daemon
    if daemon.get("/1.0/instances/web")["status"] != "Stopped":
        daemon.act("web", "stop", force=True)
    daemon.delete("web")


def test_image_and_ancestry(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    (image,) = daemon.get("/1.0/images?recursion=1")
    assert {alias["name"] for alias in image["aliases"]} == {"example", f"{example_registry.host}/example:1"}
    newest, *_, oldest = entries = daemon.get(f"/1.0/images/{image['fingerprint'][:12]}/ancestry")
    assert len(entries) == 3
    assert oldest["chain_id"] == oldest["diff_id"]
    assert newest["chain_id"] not in (newest["diff_id"], oldest["chain_id"])
    assert all(entry["size"] > 0 and entry["created_by"] for entry in entries)


def test_second_pull_is_one_manifest_request(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    def requests() -> list[str]:
        lines = example_registry.log.read_text().splitlines()
        return [line for line in lines if '"GET /v2/example/' in line or '"HEAD /v2/example/' in line]

    daemon.pull("example:1", f"http://{example_registry.host}")
    time.sleep(0.2)
    before = len(requests())
    daemon.pull("example:1", f"http://{example_registry.host}")
    deadline = time.monotonic() + 5
    while len(requests()) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    (request,) = [line for line in requests()[before:] if '" 401 ' not in line]
    assert "/manifests/1" in request


def test_console_log_and_follow(web: Daemon) -> None:
    text: list[bytes] = []

    def follow() -> None:
        client = httpx.Client(transport=httpx.HTTPTransport(uds=str(web.socket)), base_url="http://lxdpy")
        with client, client.stream("GET", "/1.0/instances/web/console?follow=true", timeout=60) as response:
            text.extend(response.iter_raw())

    thread = threading.Thread(target=follow)
    thread.start()
    while "tick 1" not in web.console("web"):
        time.sleep(0.02)
    web.act("web", "stop", timeout=30)
    thread.join(30)
    assert not thread.is_alive()
    followed = b"".join(text).decode()
    assert followed.startswith("hello from web: ")
    assert followed.endswith("SIGTERM: goodbye\n")
    assert web.console("web") == followed
    assert web.exit_of("web")["exit_code"] == 0


def test_whiteout_and_unprivileged_root(web: Daemon) -> None:
    assert web.run("web", "cat", "/etc/motd")[0] == 1
    code, out, _ = web.run("web", "cat", "/proc/self/uid_map")
    assert code == 0
    assert out.split() == ["0", "1000000", "65536"]
    assert web.run("web", "sh", "-c", "touch /made && stat -c %u:%g /made")[1] == "0:0\n"
    (made,) = (web.state_dir / "instances/web").glob("rw-*/upper/made")
    assert made.stat().st_uid == 0


def test_exec_streams_codes_user_cwd_environment(web: Daemon) -> None:
    script = "echo out; echo err >&2; echo $FOO $(id -u):$(id -g) $(pwd); exit 7"
    code, out, err = web.run("web", "sh", "-c", script, environment={"FOO": "bar"}, user=1000, group=1001, cwd="/tmp")
    assert (code, out, err) == (7, "out\nbar 1000:1001 /tmp\n", "err\n")
    assert web.run("web", "sh", "-c", "kill -9 $$")[0] == 137


def test_network(web: Daemon) -> None:
    address = web.get("/1.0/instances/web/state")["network"]["eth0"]["addresses"][0]["address"]
    assert address.startswith(GATEWAY.removesuffix("0.1"))
    assert web.run("web", "ping", "-c", "1", "-W", "5", GATEWAY)[0] == 0
    assert f"{address}\tweb\n" in web.run("web", "cat", "/etc/hosts")[1]
    assert web.run("web", "cat", "/etc/hostname")[1] == "web\n"
    assert web.run("web", "hostname")[1] == "web\n"
    assert web.run("web", "ip", "route")[1].startswith(f"default via {GATEWAY}")
    lease, gateway = web.get(f"/1.0/networks/{BRIDGE}/leases")
    assert (lease["hostname"], lease["address"]) == ("web", address)
    assert (gateway["type"], gateway["address"]) == ("gateway", GATEWAY)


def test_state(web: Daemon) -> None:
    state = web.get("/1.0/instances/web/state")
    assert state["status"] == "Running"
    assert state["pid"] > 1
    assert state["processes"] >= 1
    assert state["memory"]["usage"] > 0
    assert state["network"]["lo"]["addresses"]
    (full,) = web.get("/1.0/instances?recursion=2")
    assert full["name"] == "web"
    assert full["state"]["pid"] == state["pid"]


def test_freeze_restart_and_force(web: Daemon) -> None:
    web.act("web", "freeze")
    assert web.get("/1.0/instances/web")["status"] == "Frozen"
    web.act("web", "unfreeze")
    pid = web.get("/1.0/instances/web/state")["pid"]
    web.act("web", "restart", timeout=30)
    assert web.get("/1.0/instances/web/state")["pid"] != pid
    web.act("web", "freeze")
    web.act("web", "stop", force=True)
    assert web.exit_of("web") == {"status": "Stopped", "status_code": 102, "exit_code": None, "exit_signal": 9}


def test_overrides_and_privileged(daemon: Daemon) -> None:
    config = {
        "oci.entrypoint": "/bin/sh -c 'id; pwd; cat /proc/self/uid_map; echo \"$WORD\"; exit 5'",
        "oci.cwd": "/made/here",
        "oci.uid": "12",
        "oci.gid": "34",
        "environment.WORD": "two  words",
        "security.privileged": "true",
    }
    daemon.create("over", LOCAL, config=config)
    assert daemon.exit_of("over")["exit_code"] == 5
    lines = daemon.console("over").splitlines()
    assert lines[0].startswith("uid=12 gid=34")
    assert lines[1] == "/made/here"
    assert lines[2].split() == ["0", "0", "4294967295"]
    assert lines[3] == "two  words"
    daemon.delete("over")


def test_what_it_wrote_survives_a_restart(web: Daemon) -> None:
    assert web.run("web", "sh", "-c", "echo kept > /kept; rm /app/hello.old 2>/dev/null; rm -rf /app/extra")[0] == 0
    web.act("web", "stop", force=True)
    web.act("web", "start")
    assert web.run("web", "cat", "/kept")[1] == "kept\n"


def test_ephemeral_goes_with_its_process(daemon: Daemon) -> None:
    daemon.create("brief", LOCAL, ephemeral=True, config={"oci.entrypoint": "/bin/sleep 0.2"})
    deadline = time.monotonic() + 20
    while "/1.0/instances/brief" in daemon.get("/1.0/instances"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (daemon.state_dir / "instances/brief").exists()


def test_create_pulls_by_itself(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    source = {"type": "image", "protocol": "oci", "server": f"http://{example_registry.host}", "alias": "example:1"}
    daemon.create("other", source)
    assert daemon.run("other", "true")[0] == 0
    daemon.act("other", "stop", force=True)
    daemon.delete("other")


def test_layers_are_kept_as_an_oci_layout(daemon: Daemon) -> None:
    assert (daemon.state_dir / "oci-layout").read_text()
    (image,) = daemon.get("/1.0/images?recursion=1")
    assert (daemon.state_dir / "blobs/sha256" / image["fingerprint"]).is_file()
    done = subprocess.run(
        ["skopeo", "inspect", f"oci:{daemon.state_dir}:example"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["Digest"] == f"sha256:{image['fingerprint']}"
    assert len(list((daemon.state_dir / "layers").glob("*/meta.json"))) == 3


def test_twenty_starts_at_once(daemon: Daemon) -> None:
    names = [f"many-{number}" for number in range(20)]
    made = [daemon.request("POST", "/1.0/instances", {"name": name, "source": LOCAL, "start": True}) for name in names]
    for envelope in made:
        daemon.wait(envelope)
    assert {entry["status"] for entry in daemon.get("/1.0/instances?recursion=1")} == {"Running"}
    addresses = {lease["address"] for lease in daemon.get(f"/1.0/networks/{BRIDGE}/leases")}
    assert len(addresses - {GATEWAY}) == 20
    stops = [daemon.put(f"/1.0/instances/{name}/state", {"action": "stop", "force": True}) for name in names]
    for envelope in stops:
        daemon.wait(envelope)
    for envelope in [daemon.request("DELETE", f"/1.0/instances/{name}") for name in names]:
        daemon.wait(envelope)
    assert daemon.get("/1.0/instances") == []


def test_the_socket_is_roots(daemon: Daemon) -> None:
    status = daemon.socket.stat()
    assert status.st_mode & 0o7777 == 0o660
    assert status.st_uid == 0
    assert Path(daemon.state_dir).stat().st_mode & 0o7777 == 0o711
