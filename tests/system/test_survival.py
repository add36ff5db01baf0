"""What is left when something dies: the daemon by SIGKILL or SIGTERM, a monitor, a pull."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, Failed, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]


@pytest.fixture
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        yield running


def example(registry: ExampleRegistry) -> dict[str, str]:
    return {"type": "image", "alias": f"{registry.host}/example:1"}


def test_containers_survive_a_killed_daemon(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create("web", example(example_registry))
    daemon.create("short", example(example_registry), config={"oci.entrypoint": "/bin/sh -c 'sleep 1; exit 42'"})
    pid = daemon.get("/1.0/instances/web/state")["pid"]
    short = daemon.get("/1.0/instances/short/state")["pid"]
    daemon.kill()
    os.kill(pid, 0)
    while Path(f"/proc/{short}").exists():
        time.sleep(0.02)

    daemon.start()
    assert daemon.get("/1.0/instances/web")["status"] == "Running"
    assert daemon.get("/1.0/instances/web/state")["pid"] == pid
    assert daemon.run("web", "echo", "still here") == (0, "still here\n", "")
    assert daemon.exit_of("short")["exit_code"] == 42
    assert "hello from web" in daemon.console("web")
    daemon.act("web", "stop", timeout=30)
    assert daemon.exit_of("web")["exit_code"] == 0
    daemon.act("short", "start")


def test_sigterm_leaves_containers_and_answers_nobody_new(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create("web", example(example_registry))
    pid = daemon.get("/1.0/instances/web/state")["pid"]
    assert daemon.stop() == 0
    os.kill(pid, 0)
    daemon.start()
    assert daemon.get("/1.0/instances/web/state")["pid"] == pid


def test_sigterm_lets_running_work_finish(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create(
        "slow",
        example(example_registry),
        config={
            "oci.entrypoint": "/bin/sh -c 'trap \"sleep 1; exit 3\" TERM; echo ready; while :; do sleep 0.1; done'"
        },
    )
    while "ready" not in daemon.console("slow"):
        time.sleep(0.02)
    daemon.put("/1.0/instances/slow/state", {"action": "stop", "timeout": 20})
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.get("/1.0/instances/slow")["status"] == "Stopped"
    assert daemon.exit_of("slow")["exit_code"] == 3


def test_a_second_sigterm_ends_the_waiting(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    config = {"oci.entrypoint": "/bin/sh -c 'trap : TERM; echo ready; while :; do sleep 0.1; done'"}
    daemon.create("deaf", example(example_registry), config=config)
    while "ready" not in daemon.console("deaf"):
        time.sleep(0.02)
    daemon.put("/1.0/instances/deaf/state", {"action": "stop", "timeout": 300})
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert daemon.process.poll() is None
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 20
    daemon.start()
    assert daemon.get("/1.0/instances/deaf")["status"] == "Running"


def test_a_killed_monitor_leaves_nothing_and_the_instance_starts_again(
    daemon: Daemon, example_registry: ExampleRegistry
) -> None:
    daemon.create("web", example(example_registry))
    init = daemon.get("/1.0/instances/web/state")["pid"]
    monitor = int(Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(monitor, signal.SIGKILL)
    daemon.exit_of("web")
    daemon.act("web", "start")
    assert daemon.run("web", "true")[0] == 0


def test_a_second_daemon_is_refused(daemon: Daemon) -> None:
    done = subprocess.run(
        [".venv/bin/lxdpy", "daemon", "--state-dir", str(daemon.state_dir)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert "another lxdpy daemon runs on it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_daemon_killed_at_work_leaves_no_orphans(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    for number in range(6):
        daemon.request(
            "POST", "/1.0/instances", {"name": f"n{number}", "source": example(example_registry), "start": True}
        )
    daemon.kill()
    daemon.start()
    rows = {url.rpartition("/")[2] for url in daemon.get("/1.0/instances")}
    deadline = time.monotonic() + 20
    while {path.name for path in (daemon.state_dir / "instances").iterdir()} != rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for name in rows:
        if daemon.get(f"/1.0/instances/{name}")["status"] == "Stopped":
            daemon.act(name, "start")
        assert daemon.run(name, "true")[0] == 0


def test_an_image_in_use_can_go(daemon: Daemon, example_registry: ExampleRegistry) -> None:
    daemon.create("web", example(example_registry), start=False)
    (image,) = daemon.get("/1.0/images?recursion=1")
    daemon.wait(daemon.request("DELETE", f"/1.0/images/{image['fingerprint']}"))
    with pytest.raises(Failed, match="404"):
        daemon.get(f"/1.0/images/{image['fingerprint']}")
    daemon.act("web", "start")
    assert daemon.run("web", "true")[0] == 0
    daemon.act("web", "stop", force=True)
    daemon.delete("web")
    deadline = time.monotonic() + 20
    while list((daemon.state_dir / "layers").iterdir()) or list((daemon.state_dir / "blobs/sha256").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
