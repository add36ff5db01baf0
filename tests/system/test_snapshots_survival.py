"""The daemon is killed while it takes, restores, copies and renames: its next start finishes or undoes each, wholly."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, Failed, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]

FILES = "mkdir -p /tree && for n in $(seq 300); do echo $n > /tree/$n; done; rm -f /etc/motd"
MOMENTS = [0.0, 0.004, 0.01, 0.025]


@pytest.fixture
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        source = {"type": "image", "alias": f"{example_registry.host}/example:1"}
        running.create("web", source)
        assert running.run("web", "sh", "-c", f"{FILES}; echo first > /data")[0] == 0
        yield running


def killed_during(daemon: Daemon, moment: float, method: str, path: str, body: object) -> None:
    """Ask for something, kill the daemon that long after it has answered, and start the next one."""
    answer = daemon.request(method, path, body)
    time.sleep(moment)
    daemon.kill()
    assert answer["type"] == "async"
    daemon.start()


def eventually(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def nothing_left(daemon: Daemon) -> bool:
    """Whether disk and database agree."""
    state = daemon.state_dir
    names = {url.rpartition("/")[2] for url in daemon.get("/1.0/instances")}
    if {path.name for path in (state / "instances").iterdir()} != names:
        return False
    if any(len(list((state / "instances" / name).glob("rw*"))) != 1 for name in names):
        return False
    return not any((state / "instances" / name / "held-still").exists() for name in names)


def snapshots(daemon: Daemon, name: str) -> list[str]:
    return [entry["name"] for entry in daemon.get(f"/1.0/instances/{name}/snapshots?recursion=1")]


def check(daemon: Daemon, name: str, data: str) -> None:
    """The instance, which may have to be started, has all its files."""
    if daemon.get(f"/1.0/instances/{name}")["status"] != "Running":
        daemon.act(name, "start")
    assert daemon.run(name, "cat", "/data") == (0, f"{data}\n", "")
    assert daemon.run(name, "sh", "-c", "cat /tree/* | wc -l")[1].strip() == "300"
    assert daemon.run(name, "test", "-e", "/etc/motd")[0] == 1


def test_while_a_running_instance_is_copied(daemon: Daemon) -> None:
    for number, moment in enumerate(MOMENTS):
        killed_during(daemon, moment, "POST", "/1.0/instances/web/snapshots", {"name": f"s{number}"})
        assert daemon.get("/1.0/instances/web")["status"] == "Running"
        check(daemon, "web", "first")
        killed_during(
            daemon, moment, "POST", "/1.0/instances", {"name": "twin", "source": {"type": "copy", "source": "web"}}
        )
        check(daemon, "web", "first")
        eventually(lambda: nothing_left(daemon))
        if "/1.0/instances/twin" in daemon.get("/1.0/instances"):
            check(daemon, "twin", "first")
            daemon.act("twin", "stop", force=True)
            daemon.delete("twin")
    for snapshot in snapshots(daemon, "web"):
        daemon.wait(daemon.put("/1.0/instances/web", {"restore": snapshot}))
        check(daemon, "web", "first")
    daemon.act("web", "stop", force=True)
    daemon.delete("web")
    eventually(lambda: not list((daemon.state_dir / "layers").glob("s-*")))


def test_while_a_stopped_instance_is_changed(daemon: Daemon) -> None:
    data, kept = "first", {}
    for number, moment in enumerate(MOMENTS):
        daemon.act("web", "stop", force=True)
        killed_during(daemon, moment, "POST", "/1.0/instances/web/snapshots", {"name": f"s{number}"})
        eventually(lambda: nothing_left(daemon))
        killed_during(daemon, moment, "POST", "/1.0/instances/web", {"name": "db"})
        eventually(lambda: nothing_left(daemon))
        with suppress(Failed):
            daemon.wait(daemon.request("POST", "/1.0/instances/db", {"name": "web"}))
        assert daemon.get("/1.0/instances") == ["/1.0/instances/web"]
        check(daemon, "web", data)
        daemon.act("web", "stop", force=True)
        kept[f"k{number}"] = data
        daemon.wait(daemon.request("POST", "/1.0/instances/web/snapshots", {"name": f"k{number}"}))
        check(daemon, "web", data)
        data = f"written {number}"
        assert daemon.run("web", "sh", "-c", f"echo {data} > /data")[0] == 0
    daemon.act("web", "stop", force=True)
    for moment, wanted in zip(MOMENTS, sorted(kept, key=lambda _: random.random()), strict=True):
        before = data
        killed_during(daemon, moment, "PUT", "/1.0/instances/web", {"restore": wanted})
        eventually(lambda: nothing_left(daemon))
        daemon.act("web", "start")
        data = daemon.run("web", "cat", "/data")[1].strip()
        assert data in (before, kept[wanted])
        check(daemon, "web", data)
        daemon.act("web", "stop", force=True)
    daemon.delete("web")
    eventually(lambda: not list((daemon.state_dir / "layers").glob("s-*")))
