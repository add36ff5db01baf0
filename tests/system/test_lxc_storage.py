"""Storage pools by LXD's own client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


def test_pools_come_and_go(lxc: Lxc, daemon: Daemon) -> None:
    assert lxc.ok("storage", "create", "p1", "dir", "user.a=b") == "Storage pool p1 created\n"
    pools = {pool["name"]: pool for pool in lxc.json("storage", "list")}
    assert sorted(pools) == ["default", "p1"]
    assert (pools["default"]["driver"], pools["p1"]["driver"]) == ("overlay", "dir")
    assert pools["p1"]["config"] == {"source": str(daemon.state_dir / "storage-pools/p1"), "user.a": "b"}
    assert pools["p1"]["status"] == "Created"
    assert "total space" in lxc.ok("storage", "info", "p1")
    lxc.ok("storage", "set", "p1", "user.a", "c")
    assert lxc.ok("storage", "get", "p1", "user.a") == "c\n"
    lxc.ok("storage", "unset", "p1", "user.a")
    assert lxc.ok("storage", "get", "p1", "user.a").strip() == ""
    shown = lxc.ok("storage", "show", "p1").replace('description: ""', "description: mine")
    lxc.ok("storage", "edit", "p1", stdin=shown.encode())
    assert lxc.yaml("storage", "show", "p1")["description"] == "mine"
    assert "already exists" in lxc.fails("storage", "create", "p1", "dir")
    lxc.ok("storage", "delete", "p1")
    assert "not found" in lxc.fails("storage", "show", "p1")


def test_a_pool_in_a_directory_of_the_administrators(lxc: Lxc, daemon: Daemon) -> None:
    source = daemon.state_dir.parent / "disk"
    source.mkdir()
    lxc.ok("storage", "create", "disk", "dir", f"source={source}")
    assert lxc.yaml("storage", "show", "disk")["config"]["source"] == str(source)
    lxc.ok("storage", "delete", "disk")
    assert source.is_dir()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "x", "zfs"), 'driver "zfs" is not available'),
        (("create", "x", "dir", "size=1GiB"), 'Invalid option "size"'),
        (("create", "x", "dir", "source=/nonexistent"), "doesn't exist"),
        (("delete", "default"), "holds all instances"),
        (("delete", "none"), "not found"),
        (("set", "default", "source", "/x"), "Cannot change the source"),
    ],
)
def test_what_is_refused_says_why(lxc: Lxc, arguments: tuple[str, ...], text: str) -> None:
    assert text in lxc.fails("storage", *arguments)


def test_the_server_names_its_drivers(lxc: Lxc, daemon: Daemon) -> None:
    drivers = daemon.get("/1.0")["environment"]["storage_supported_drivers"]
    assert [driver["Name"] for driver in drivers] == ["dir", "overlay"]
    assert Path(lxc.yaml("storage", "show", "default")["config"]["source"]) == daemon.state_dir
