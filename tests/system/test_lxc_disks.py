"""LXD's client gives instances disks: volumes and host paths, at the start and while they run."""

import os
from collections.abc import Iterator
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


@pytest.fixture
def volume(lxc: Lxc, web: str) -> Iterator[str]:
    """A volume that is gone after what uses it."""
    lxc.ok("storage", "volume", "create", "default", "data")
    yield "data"
    for name in [entry["name"] for entry in lxc.json("list")]:
        lxc.ok("delete", "--force", name)
    lxc.ok("storage", "volume", "delete", "default", "data")


def shell(lxc: Lxc, name: str, script: str) -> str:
    return lxc.ok("exec", name, "--", "sh", "-c", script).strip()


def test_a_volume_is_attached_and_detached_while_instances_share_it(lxc: Lxc, web: str, volume: str) -> None:
    lxc.ok("launch", "example", "db")
    for name in ("web", "db"):
        lxc.ok("storage", "volume", "attach", "default", volume, name, "/data")
    shell(lxc, "web", "echo shared > /data/file; chown 100:101 /data/file")
    assert shell(lxc, "db", "cat /data/file; stat -c %u:%g /data/file") == "shared\n100:101"
    used = lxc.yaml("storage", "volume", "show", "default", volume)["used_by"]
    assert used == ["/1.0/instances/db", "/1.0/instances/web"]
    assert "still in use" in lxc.fails("storage", "volume", "delete", "default", volume)
    lxc.ok("storage", "volume", "detach", "default", volume, "db")
    assert shell(lxc, "db", "ls /data") == ""
    # It is there again after a restart, and goes while its instance runs.
    lxc.ok("restart", "--force", "web")
    assert shell(lxc, "web", "cat /data/file") == "shared"
    lxc.ok("storage", "volume", "detach", "default", volume, "web")
    assert shell(lxc, "web", "ls /data") == ""


def test_snapshots_of_a_volume_are_restored_when_nothing_runs(lxc: Lxc, web: str, volume: str) -> None:
    lxc.ok("storage", "volume", "attach", "default", volume, "web", "/data")
    shell(lxc, "web", "echo old > /data/file; chown 7:8 /data/file")
    lxc.ok("storage", "volume", "snapshot", "default", volume, "before")
    shell(lxc, "web", "echo new > /data/file")
    assert "runs" in lxc.fails("storage", "volume", "restore", "default", volume, "before")
    assert "runs" in lxc.fails("storage", "volume", "rename", "default", volume, "other")
    lxc.ok("stop", "--force", "web")
    lxc.ok("storage", "volume", "restore", "default", volume, "before")
    lxc.ok("storage", "volume", "rename", "default", volume, "other")
    assert lxc.yaml("config", "device", "show", "web")["data"]["source"] == "other"
    lxc.ok("start", "web")
    assert shell(lxc, "web", "cat /data/file; stat -c %u:%g /data/file") == "old\n7:8"
    lxc.ok("stop", "--force", "web")
    lxc.ok("storage", "volume", "rename", "default", "other", volume)


def test_a_volume_comes_by_a_profile(lxc: Lxc, web: str, volume: str) -> None:
    lxc.ok("profile", "create", "with-data")
    lxc.ok("storage", "volume", "attach-profile", "default", volume, "with-data", "/data")
    used = lxc.yaml("storage", "volume", "show", "default", volume)["used_by"]
    assert used == ["/1.0/profiles/with-data"]
    lxc.ok("profile", "add", "web", "with-data")
    shell(lxc, "web", "touch /data/file")
    lxc.ok("profile", "remove", "web", "with-data")
    assert shell(lxc, "web", "ls /data") == ""
    lxc.ok("storage", "volume", "detach-profile", "default", volume, "with-data")
    lxc.ok("profile", "delete", "with-data")


def test_host_paths_come_and_go(lxc: Lxc, web: str, daemon: Daemon) -> None:
    source = daemon.state_dir.parent / "source"
    source.mkdir()
    (source / "file").write_text("text\n")
    lxc.ok("config", "device", "add", "web", "d", "disk", f"source={source}", "path=/d", "shift=true")
    assert shell(lxc, "web", "cat /d/file; touch /d/made") == "text"
    assert (source / "made").stat().st_uid == 0
    lxc.ok("config", "device", "set", "web", "d", "readonly", "true")
    assert shell(lxc, "web", "touch /d/x 2>/dev/null || echo refused") == "refused"
    lxc.ok("config", "device", "add", "web", "f", "disk", f"source={source}/file", "path=etc/one")
    assert shell(lxc, "web", "cat /etc/one; stat -c %u /etc/one") == "text\n65534"
    lxc.ok("restart", "--force", "web")
    assert shell(lxc, "web", "cat /etc/one /d/file; touch /d/x 2>/dev/null || echo refused") == "text\ntext\nrefused"
    lxc.ok("config", "device", "remove", "web", "d", "f")
    assert shell(lxc, "web", "ls /d; cat /etc/one") == ""
    assert sorted(os.listdir(source)) == ["file", "made"]


def test_a_missing_source_is_an_error_unless_it_may_be_missing(lxc: Lxc, web: str) -> None:
    lxc.ok("config", "device", "add", "web", "n", "disk", "source=/nonexistent", "path=/n", "required=false")
    assert "Missing source path" in lxc.fails(
        *("config", "device", "add", "web", "m", "disk", "source=/nonexistent", "path=/m")
    )
    assert list(lxc.yaml("config", "device", "show", "web")) == ["n"]
    lxc.ok("restart", "--force", "web")
    lxc.ok("config", "device", "remove", "web", "n")


def test_the_next_daemon_takes_a_disk_away(example_registry: ExampleRegistry) -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        daemon.pull("example:1", f"http://{example_registry.host}")
        fingerprint = daemon.get("/1.0/images?recursion=1")[0]["fingerprint"]
        source = directory / "source"
        source.mkdir()
        disk = {"type": "disk", "source": str(source), "path": "/d", "shift": "true"}
        daemon.create("web", {"type": "image", "fingerprint": fingerprint}, devices={"d": disk})
        daemon.kill()
        daemon.start()
        assert daemon.run("web", "touch", "/d/file")[0] == 0
        daemon.wait(daemon.put("/1.0/instances/web", {"devices": {}, "profiles": ["default"]}))
        assert daemon.run("web", "ls", "/d") == (0, "", "")
        assert os.listdir(source) == ["file"]


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (("pool=default", "source=none", "path=/x"), 'Failed loading storage volume "none"'),
        (("pool=none", "source=data", "path=/x"), "Storage pool not found"),
        (("source=relative", "path=/x"), "must be absolute"),
        (("source=/tmp",), 'the required "path"'),
        (("source=/tmp", "path=/x", "size=1GiB"), "quotas"),
        (("source=/tmp", "path=/x", "bogus=1"), "bogus"),
        (("source=/tmp", "path=/x/../../y"), "Invalid path"),
        (("pool=default", "path=/"), "same path"),
        (("source=tmpfs:", "path=/x"), "not supported"),
    ],
)
def test_what_is_refused_says_why(lxc: Lxc, web: str, device: tuple[str, ...], text: str) -> None:
    lxc.ok("config", "device", "add", "web", "root", "disk", "pool=default", "path=/")
    assert text in lxc.fails("config", "device", "add", "web", "d", "disk", *device)


def test_an_instance_lies_in_the_default_pool(lxc: Lxc, web: str) -> None:
    lxc.ok("storage", "create", "extra", "dir")
    assert "all instances lie" in lxc.fails("init", "example", "other", "--storage", "extra")
    lxc.ok("init", "example", "other", "--storage", "default")
    assert "/1.0/instances/other" in lxc.yaml("storage", "show", "default")["used_by"]
    lxc.ok("storage", "delete", "extra")
    listed = {(volume["type"], volume["name"]) for volume in lxc.json("storage", "volume", "list", "default")}
    assert ("container", "web") in listed
    assert Path(lxc.yaml("storage", "show", "default")["config"]["source"]).is_dir()
