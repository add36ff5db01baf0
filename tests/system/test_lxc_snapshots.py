"""LXD's client takes snapshots, restores, copies, renames and moves."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import BRIDGE, Daemon, place
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


@pytest.fixture
def web(lxc: Lxc) -> Iterator[str]:
    """A running instance."""
    lxc.ok("launch", "example", "web")
    yield "web"
    for name in [entry["name"] for entry in lxc.json("list")]:
        lxc.ok("delete", "--force", name)


def write(lxc: Lxc, name: str, path: str, text: str) -> None:
    lxc.ok("exec", name, "--", "sh", "-c", f"echo {text} > {path}")


def read(lxc: Lxc, name: str, path: str) -> str:
    return lxc.ok("exec", name, "--", "cat", path).strip()


def uppers(daemon: Daemon) -> list[Path]:
    return sorted((daemon.state_dir / "layers").glob("s-*/fs"))


def eventually(check: Callable[[], bool]) -> None:
    """Wait for what the daemon does in the background."""
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_a_running_instance(lxc: Lxc, daemon: Daemon, web: str) -> None:
    write(lxc, web, "/data", "one")
    lxc.ok("exec", web, "--", "rm", "/etc/passwd")
    lxc.ok("snapshot", web)
    lxc.ok("snapshot", web, "named")
    write(lxc, web, "/data", "two")
    assert lxc.json("list")[0]["status"] == "Running"
    assert [snapshot["name"] for snapshot in lxc.json("list")[0]["snapshots"]] == ["snap0", "named"]
    assert "| named |" in lxc.ok("info", web)
    assert lxc.ok("list", "-c", "nS", "--format", "csv") == "web,2\n"
    shown = lxc.yaml("config", "show", "web/named")
    assert (shown["name"], shown["profiles"], shown["stateful"]) == ("named", ["default"], False)
    assert "already exists" in lxc.fails("snapshot", web, "named")
    lxc.ok("snapshot", web, "named", "--reuse")
    assert "not checkpointed" in lxc.fails("snapshot", web, "memory", "--stateful")
    assert "not checkpointed" in lxc.fails("restore", web, "snap0", "--stateful")
    assert read(lxc, web, "/data") == "two"

    pid = lxc.json("list")[0]["state"]["pid"]
    lxc.ok("restore", web, "snap0")
    (entry,) = lxc.json("list")
    assert entry["status"] == "Running"
    assert entry["state"]["pid"] != pid
    assert read(lxc, web, "/data") == "one"
    assert lxc.run("exec", web, "--", "test", "-e", "/etc/passwd").code == 1
    lxc.ok("restore", web, "named")
    assert read(lxc, web, "/data") == "two"
    assert "not found" in lxc.fails("restore", web, "none")

    lxc.ok("delete", "web/snap0")
    lxc.ok("move", "web/named", "web/other")
    assert [snapshot["name"] for snapshot in lxc.query("/1.0/instances/web/snapshots?recursion=1")] == ["other"]
    assert read(lxc, web, "/data") == "two"
    eventually(lambda: len(uppers(daemon)) == 1)


def test_of_a_stopped_instance_moves_its_files(lxc: Lxc, daemon: Daemon, web: str) -> None:
    write(lxc, web, "/data", "one")
    lxc.ok("exec", web, "--", "chmod", "711", "/")
    lxc.ok("stop", "--force", web)
    (upper,) = (daemon.state_dir / "instances/web").glob("rw-*/upper")
    inode = (upper / "data").stat().st_ino
    lxc.ok("snapshot", web, "first")
    (layer,) = uppers(daemon)
    assert (layer / "data").stat().st_ino == inode
    # Nothing was written since: nothing is stacked.
    lxc.ok("snapshot", web, "second")
    assert uppers(daemon) == [layer]
    lxc.ok("start", web)
    assert read(lxc, web, "/data") == "one"
    assert lxc.ok("exec", web, "--", "stat", "-c", "%a", "/") == "711\n"
    write(lxc, web, "/data", "two")
    lxc.ok("stop", "--force", web)
    lxc.ok("snapshot", web, "third")
    lxc.ok("restore", web, "first")
    assert lxc.json("list")[0]["status"] == "Stopped"
    lxc.ok("start", web)
    assert read(lxc, web, "/data") == "one"
    assert lxc.ok("exec", web, "--", "stat", "-c", "%a", "/") == "711\n"
    lxc.ok("restore", web, "third")
    assert read(lxc, web, "/data") == "two"
    lxc.ok("delete", "--force", web)
    eventually(lambda: not uppers(daemon))


def test_settings_come_back(lxc: Lxc, web: str) -> None:
    lxc.ok("config", "set", web, "user.colour", "red")
    lxc.ok("stop", "--force", web)
    lxc.ok("snapshot", web)
    lxc.ok("config", "set", web, "user.colour", "blue")
    lxc.ok("config", "set", web, "user.more", "1")
    hwaddr = lxc.ok("config", "get", web, "volatile.eth0.hwaddr")
    lxc.ok("restore", web, "snap0")
    config = lxc.json("list")[0]["config"]
    assert config["user.colour"] == "red"
    assert "user.more" not in config
    assert config["volatile.eth0.hwaddr"] == hwaddr.strip()


def test_expiry(lxc: Lxc, daemon: Daemon, web: str) -> None:
    lxc.ok("config", "set", web, "snapshots.expiry", "1d")
    lxc.ok("config", "set", web, "snapshots.pattern", "daily%d")
    lxc.ok("snapshot", web)
    lxc.ok("snapshot", web, "kept", "--no-expiry")
    daily, kept = lxc.query("/1.0/instances/web/snapshots?recursion=1")
    assert daily["name"] == "daily0"
    assert daily["expires_at"] > daily["created_at"]
    assert kept["expires_at"] == "0001-01-01T00:00:00Z"
    lxc.ok("config", "edit", "web/kept", stdin=b"expires_at: 2040-01-02T03:04:05Z\n")
    assert lxc.query("/1.0/instances/web/snapshots/kept")["expires_at"].startswith("2040-01-02T03:04:05")
    assert "Invalid expiry expression" in lxc.fails("config", "set", web, "snapshots.expiry", "soon")
    assert "Schedule must be" in lxc.fails("config", "set", web, "snapshots.schedule", "soon")
    lxc.ok("config", "set", web, "snapshots.schedule", "@daily, @hourly")


def test_copies(lxc: Lxc, daemon: Daemon, web: str) -> None:
    write(lxc, web, "/data", "one")
    lxc.ok("snapshot", web, "first")
    write(lxc, web, "/data", "two")
    lxc.ok("copy", web, "running")
    card = [f"eth0,{pair}" for pair in ("type=nic", f"network={BRIDGE}", "mtu=1400")]
    options = [word for pair in card for word in ("--device", pair)]
    lxc.ok("copy", "web/first", "early", "--profile", "default", *options)
    lxc.ok("stop", "--force", web)
    lxc.ok("copy", web, "stopped", "--instance-only", "--config", "user.new=1", "--ephemeral")
    entries = {entry["name"]: entry for entry in lxc.json("list")}
    assert {name: len(entry["snapshots"] or ()) for name, entry in entries.items()} == {
        "web": 1,
        "running": 1,
        "early": 0,
        "stopped": 0,
    }
    assert entries["early"]["devices"]["eth0"]["mtu"] == "1400"
    assert entries["stopped"]["ephemeral"]
    assert entries["stopped"]["config"]["user.new"] == "1"
    uuids = {entry["config"]["volatile.uuid"] for entry in entries.values()}
    assert len(uuids) == 4
    # Shared: what the source had written by the snapshot, and what it had when it was copied stopped.
    assert len(uppers(daemon)) == 2
    for name, text in (("web", "two"), ("running", "two"), ("early", "one"), ("stopped", "two")):
        lxc.ok("start", name)
        assert read(lxc, name, "/data") == text
        write(lxc, name, "/data", name)
    addresses = [entry["config"]["volatile.eth0.hwaddr"] for entry in lxc.json("list")]
    assert len(set(addresses)) == 4
    assert read(lxc, web, "/data") == "web"
    assert "already exists" in lxc.fails("copy", web, "early")
    assert "not found" in lxc.fails("copy", "nothing", "other")
    address = lxc.ok("config", "get", "running", "volatile.eth0.hwaddr")
    lxc.ok("restore", "running", "first")
    assert lxc.ok("config", "get", "running", "volatile.eth0.hwaddr") == address
    assert read(lxc, "running", "/data") == "one"


def test_refresh(lxc: Lxc, web: str) -> None:
    write(lxc, web, "/data", "one")
    lxc.ok("snapshot", web, "first")
    lxc.ok("copy", web, "backup", "--refresh")
    write(lxc, web, "/data", "two")
    lxc.ok("snapshot", web, "second")
    lxc.ok("snapshot", "backup", "stray")
    lxc.ok("copy", web, "backup", "--refresh")
    assert [entry["name"] for entry in lxc.query("/1.0/instances/backup/snapshots?recursion=1")] == ["first", "second"]
    # Addresses came along, as LXD's client wants it: a refreshed copy is one for another day, or another server.
    lxc.ok("config", "set", "backup", "volatile.eth0.hwaddr", "00:16:3e:01:02:03")
    lxc.ok("start", "backup")
    assert read(lxc, "backup", "/data") == "two"
    assert "Cannot refresh a running instance" in lxc.fails("copy", web, "backup", "--refresh")


def test_renames(lxc: Lxc, daemon: Daemon, web: str) -> None:
    write(lxc, web, "/data", "one")
    lxc.ok("snapshot", web, "first")
    assert "running container not allowed" in lxc.fails("rename", web, "db")
    lxc.ok("stop", "--force", web)
    lxc.ok("rename", web, "db")
    assert not (daemon.state_dir / "instances/web").exists()
    lxc.ok("start", "db")
    assert lxc.ok("exec", "db", "--", "hostname") == "db\n"
    assert read(lxc, "db", "/data") == "one"
    hosts = [lease["hostname"] for lease in daemon.get(f"/1.0/networks/{BRIDGE}/leases") if lease["type"] != "gateway"]
    assert hosts == ["db"]
    lxc.ok("restore", "db", "first")
    lxc.ok("launch", "example", "web")
    lxc.ok("stop", "--force", "db")
    assert "already in use" in lxc.fails("move", "db", "web")
    lxc.ok("move", "db", "database")
    assert [entry["name"] for entry in lxc.json("list")] == ["database", "web"]


def test_a_snapshot_is_of_one_moment(lxc: Lxc, web: str) -> None:
    script = "mkdir /pair; n=0; while :; do n=$((n+1)); echo $n > /pair/first; echo $n > /pair/second; done"
    lxc.ok("exec", web, "--", "sh", "-c", f"({script}) >/dev/null 2>&1 & sleep 0.3")
    for number in range(3):
        lxc.ok("copy", web, f"copy{number}", "--instance-only")
        lxc.ok("snapshot", web)
    lxc.ok("stop", "--force", web)
    for number in range(3):
        lxc.ok("copy", f"{web}/snap{number}", f"early{number}")
    for name in [f"{kind}{number}" for kind in ("copy", "early") for number in range(3)]:
        lxc.ok("start", name)
        first, second = (read(lxc, name, f"/pair/{file}") for file in ("first", "second"))
        # One of them may just be empty: truncated, and not yet written.
        if first and second:
            assert int(first) - int(second) in (0, 1)
        lxc.ok("delete", "--force", name)


def test_trees_that_are_too_deep_to_copy(lxc: Lxc, daemon: Daemon, web: str) -> None:
    name = "d" * 200
    deeper = f"mkdir /outer && mv /{name} /outer && mv /outer /{name}"
    lxc.ok("exec", web, "--", "sh", "-c", f"mkdir /{name}; for n in $(seq 30); do {deeper} || exit 1; done")
    assert "File name too long" in lxc.fails("snapshot", web)
    assert lxc.json("list")[0]["status"] == "Running"
    eventually(lambda: len(list((daemon.state_dir / "instances/web").glob("rw-*"))) == 1)
    lxc.ok("stop", "--force", web)
    lxc.ok("snapshot", web)
    lxc.ok("copy", web, "twin")
    lxc.ok("start", "twin")
    lxc.ok("exec", "twin", "--", "test", "-d", "/".join(["", *[name] * 19]))
    for made in ("twin", web):
        lxc.ok("delete", "--force", made)
    eventually(lambda: not uppers(daemon))


def test_an_instance_of_nothing(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("init", "--empty", "hull")
    try:
        assert "init" in lxc.fails("start", "hull")
        assert lxc.json("list")[0]["status"] == "Stopped"
        lxc.ok("snapshot", "hull")
        lxc.ok("copy", "hull", "other")
        lxc.ok("delete", "other")
    finally:
        lxc.ok("delete", "hull")


def test_other_projects(lxc: Lxc, web: str) -> None:
    write(lxc, web, "/data", "one")
    lxc.ok("snapshot", web, "first")
    lxc.ok("project", "create", "lab", "--config", "features.images=false", "--config", "features.profiles=false")
    try:
        lxc.ok("copy", web, "twin", "--target-project", "lab")
        lxc.ok("stop", "--force", web)
        lxc.ok("move", web, "moved", "--target-project", "lab")
        assert lxc.json("list") == []
        entries = lxc.json("list", "--project", "lab")
        assert {entry["name"]: len(entry["snapshots"]) for entry in entries} == {"moved": 1, "twin": 1}
        lxc.ok("start", "moved", "--project", "lab")
        assert lxc.ok("exec", "moved", "--project", "lab", "--", "cat", "/data") == "one\n"
        assert "running container not allowed" in lxc.fails(
            "move", "moved", "--project", "lab", "--target-project", "default"
        )
        lxc.ok("move", "twin", web, "--project", "lab", "--target-project", "default")
        lxc.ok("restore", web, "first")
        assert lxc.json("list")[0]["project"] == "default"
        assert "not found" in lxc.fails("move", web, "--target-project", "nowhere")
        assert "elsewhere" in lxc.fails("move", web, "other", "--storage", "elsewhere")
    finally:
        for entry in lxc.json("list", "--project", "lab"):
            lxc.ok("delete", "--force", entry["name"], "--project", "lab")
        lxc.ok("project", "delete", "lab")
