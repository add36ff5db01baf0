"""Custom volumes by LXD's own client."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.daemon import Daemon, Failed, place
from tests.system.lxc import Lxc

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    client = Lxc(daemon.state_dir, daemon.state_dir.parent / "home")
    client.ok("storage", "create", "p1", "dir")
    return client


def listed(lxc: Lxc, pool: str) -> list[tuple[str, str]]:
    return [(volume["type"], volume["name"]) for volume in lxc.json("storage", "volume", "list", pool)]


def files_of(daemon: Daemon, pool: str, volume: str) -> Path:
    """Where a volume's files are, once those that it had before are gone."""
    deadline = time.monotonic() + 20
    while True:
        found = list((daemon.state_dir / "storage-pools" / pool / "custom").glob(f"default_{volume}_*"))
        if len(found) == 1 or time.monotonic() > deadline:
            assert len(found) == 1, found
            return found[0]
        time.sleep(0.01)


def test_a_volume_comes_changes_and_goes(lxc: Lxc) -> None:
    assert "Storage volume v1 created" in lxc.ok("storage", "volume", "create", "p1", "v1", "user.a=b")
    assert listed(lxc, "p1") == [("custom", "v1")]
    shown = lxc.yaml("storage", "volume", "show", "p1", "v1")
    assert (shown["config"], shown["type"], shown["used_by"]) == ({"user.a": "b"}, "custom", [])
    assert "Usage: " in lxc.ok("storage", "volume", "info", "p1", "v1")
    lxc.ok("storage", "volume", "set", "p1", "v1", "user.a", "c")
    assert lxc.ok("storage", "volume", "get", "p1", "v1", "user.a").strip() == "c"
    lxc.ok("storage", "volume", "unset", "p1", "v1", "user.a")
    lxc.ok("storage", "volume", "edit", "p1", "v1", stdin=b"description: mine\nconfig:\n  user.b: d\n")
    shown = lxc.yaml("storage", "volume", "show", "p1", "v1")
    assert (shown["description"], shown["config"]) == ("mine", {"user.b": "d"})
    lxc.ok("storage", "volume", "rename", "p1", "v1", "v2")
    assert "already exists" in lxc.fails("storage", "volume", "create", "p1", "v2")
    assert "currently in use" in lxc.fails("storage", "delete", "p1")
    lxc.ok("storage", "volume", "delete", "p1", "v2")
    assert listed(lxc, "p1") == []
    assert "not found" in lxc.fails("storage", "volume", "show", "p1", "v2")


def test_snapshots_keep_what_was(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("storage", "volume", "create", "p1", "data")
    file = files_of(daemon, "p1", "data") / "file"
    file.write_text("old")
    lxc.ok("storage", "volume", "snapshot", "p1", "data")
    lxc.ok("storage", "volume", "snapshot", "p1", "data", "named")
    assert lxc.query("/1.0/storage-pools/p1/volumes?filter=name%20eq%20data") == [
        "/1.0/storage-pools/p1/volumes/custom/data"
    ]
    assert listed(lxc, "p1") == [("custom", "data"), ("custom", "data/named"), ("custom", "data/snap0")]
    assert "named" in lxc.ok("storage", "volume", "info", "p1", "data")
    assert lxc.yaml("storage", "volume", "show", "p1", "data/named")["name"] == "named"
    assert "already in use" in lxc.fails("storage", "volume", "snapshot", "p1", "data", "named")
    file.write_text("new")
    lxc.ok("storage", "volume", "rename", "p1", "data/named", "data/other")
    lxc.ok("storage", "volume", "restore", "p1", "data", "other")
    assert (files_of(daemon, "p1", "data") / "file").read_text() == "old"
    lxc.ok("storage", "volume", "delete", "p1", "data/other")
    assert listed(lxc, "p1") == [("custom", "data"), ("custom", "data/snap0")]
    lxc.ok("storage", "volume", "delete", "p1", "data")


def test_copies_and_moves(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("storage", "volume", "create", "p1", "data", "user.a=b")
    file = files_of(daemon, "p1", "data") / "file"
    file.write_text("kept")
    lxc.ok("storage", "volume", "snapshot", "p1", "data", "s")
    assert "copied" in lxc.ok("storage", "volume", "copy", "p1/data", "default/copy")
    assert [name for kind, name in listed(lxc, "default") if kind == "custom"] == ["copy", "copy/s"]
    assert lxc.ok("storage", "volume", "get", "default", "copy", "user.a").strip() == "b"
    assert (files_of(daemon, "default", "copy") / "file").read_text() == "kept"
    lxc.ok("storage", "volume", "copy", "p1/data/s", "p1/older")
    lxc.ok("storage", "volume", "copy", "p1/data", "p1/plain", "--volume-only")
    assert "already exists" in lxc.fails("storage", "volume", "copy", "p1/data", "p1/plain")
    assert "moved" in lxc.ok("storage", "volume", "move", "default/copy", "p1/moved")
    assert listed(lxc, "p1") == [("custom", name) for name in ("data", "data/s", "moved", "moved/s", "older", "plain")]
    # LXD's API moves between pools, too; its client does not ask for that on one host.
    lxc.query("/1.0/storage-pools/p1/volumes/custom/moved", "POST", {"name": "back", "pool": "default"})
    assert [name for kind, name in listed(lxc, "default") if kind == "custom"] == ["back", "back/s"]
    lxc.ok("storage", "volume", "delete", "default", "back")
    for name in ("data", "older", "plain"):
        lxc.ok("storage", "volume", "delete", "p1", name)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "none", "v"), "Storage pool not found"),
        (("create", "p1", "v", "size=1GiB"), "no quotas"),
        (("create", "p1", "v", "bogus=1"), 'option "bogus"'),
        (("create", "p1", "v", "--type", "block"), '"block" is not supported'),
        (("create", "p1", "a/b"), "slashes"),
        (("delete", "p1", "none"), "not found"),
        (("restore", "p1", "none", "s"), "not found"),
    ],
)
def test_what_is_refused_says_why(lxc: Lxc, arguments: tuple[str, ...], text: str) -> None:
    assert text in lxc.fails("storage", "volume", *arguments)


def test_projects_have_volumes_of_their_own_unless_they_share(lxc: Lxc) -> None:
    def custom(project: str) -> list[str]:
        volumes = lxc.json("--project", project, "storage", "volume", "list", "p1")
        return [volume["name"] for volume in volumes if volume["type"] == "custom"]

    lxc.ok("project", "create", "own")
    lxc.ok("project", "create", "shares", "-c", "features.storage.volumes=false")
    lxc.ok("storage", "volume", "create", "p1", "v")
    assert (custom("default"), custom("own"), custom("shares")) == (["v"], [], ["v"])
    lxc.ok("--project", "own", "storage", "volume", "create", "p1", "v")
    lxc.ok("storage", "volume", "copy", "p1/v", "p1/w", "--target-project", "own")
    assert custom("own") == ["v", "w"]
    assert "Only empty projects" in lxc.fails("project", "delete", "own")
    lxc.ok("--project", "own", "storage", "volume", "move", "p1/w", "p1/x", "--target-project", "default")
    assert (custom("default"), custom("own")) == (["v", "x"], ["v"])
    assert lxc.query("/1.0/storage-pools/p1/volumes?all-projects=true") == [
        "/1.0/storage-pools/p1/volumes/custom/v",
        "/1.0/storage-pools/p1/volumes/custom/x",
        "/1.0/storage-pools/p1/volumes/custom/v?project=own",
    ]
    lxc.ok("--project", "own", "storage", "volume", "delete", "p1", "v")
    for name in ("v", "x"):
        lxc.ok("storage", "volume", "delete", "p1", name)
    for name in ("own", "shares"):
        lxc.ok("project", "delete", name)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_volume_comes_back_from_a_file(lxc: Lxc, daemon: Daemon, tmp_path: Path, compression: str) -> None:
    lxc.ok("storage", "volume", "create", "p1", "data", "user.a=b")
    place = files_of(daemon, "p1", "data")
    (place / "file").write_text("old")
    os.chown(place / "file", 7, 8)
    lxc.ok("storage", "volume", "snapshot", "p1", "data", "before")
    (place / "file").write_text("new")
    os.link(place / "file", place / "twin")
    file = tmp_path / "data.tar"
    lxc.ok("storage", "volume", "export", "p1", "data", str(file), "--compression", compression)
    assert lxc.query("/1.0/storage-pools/p1/volumes/custom/data/backups") == []
    assert not list((daemon.state_dir / "volume-backups").iterdir())
    lxc.ok("storage", "volume", "import", "default", str(file), "again")
    again = files_of(daemon, "default", "again")
    found = (again / "file").stat()
    assert ((again / "file").read_text(), found.st_uid, found.st_gid, found.st_nlink) == ("new", 7, 8, 2)
    assert lxc.ok("storage", "volume", "get", "default", "again", "user.a").strip() == "b"
    lxc.ok("storage", "volume", "restore", "default", "again", "before")
    assert (files_of(daemon, "default", "again") / "file").read_text() == "old"
    assert "already exists" in lxc.fails("storage", "volume", "import", "p1", str(file), "data")
    lxc.ok("storage", "volume", "delete", "default", "again")
    lxc.ok("storage", "volume", "delete", "p1", "data")


def test_backups_of_volumes_are_listed_renamed_and_gone_with_them(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("storage", "volume", "create", "p1", "data")
    path = "/1.0/storage-pools/p1/volumes/custom/data/backups"
    lxc.query(path, "POST", {"name": "", "volume_only": True})
    lxc.query(path, "POST", {"name": "named", "expires_at": "2183-06-16T00:00:00Z"})
    listed = [(one["name"], one["volume_only"], one["expires_at"]) for one in lxc.query(f"{path}?recursion=1")]
    assert listed == [("backup0", True, "0001-01-01T00:00:00Z"), ("named", False, "2183-06-16T00:00:00Z")]
    lxc.query(f"{path}/named", "POST", {"name": "other"})
    assert lxc.query(path) == [f"{path}/backup0", f"{path}/other"]
    with pytest.raises(Failed, match="already exists"):
        daemon.request("POST", path, {"name": "other"})
    lxc.query(f"{path}/backup0", "DELETE")
    lxc.ok("storage", "volume", "rename", "p1", "data", "db")
    assert lxc.query("/1.0/storage-pools/p1/volumes/custom/db/backups/other")["name"] == "other"
    assert len(list((daemon.state_dir / "volume-backups").iterdir())) == 1
    lxc.ok("storage", "volume", "delete", "p1", "db")
    assert not list((daemon.state_dir / "volume-backups").iterdir())


def test_what_a_killed_daemon_was_copying_is_gone() -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        path = "/1.0/storage-pools/default/volumes/custom"
        daemon.request("POST", path, {"name": "data"})
        for number in range(3000):
            (files_of(daemon, "default", "data") / str(number)).write_bytes(bytes(5000))
        daemon.request("POST", path, {"name": "copy", "source": {"type": "copy", "name": "data"}})
        custom = daemon.state_dir / "storage-pools/default/custom"
        while not list(custom.glob("default_copy_*")):
            pass
        daemon.kill()
        daemon.start()
        assert not list(custom.glob("default_copy_*"))
        assert daemon.get(path) == [f"{path}/data"]


def test_volumes_outlive_the_daemon_and_half_made_ones_do_not() -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        path = "/1.0/storage-pools/default/volumes/custom"
        daemon.request("POST", path, {"name": "data"})
        files_of(daemon, "default", "data").joinpath("file").write_text("kept")
        lost = daemon.state_dir / "storage-pools/default/custom/default_lost_0123456789abcdef"
        lost.mkdir()
        daemon.kill()
        daemon.start()
        assert files_of(daemon, "default", "data").joinpath("file").read_text() == "kept"
        assert not lost.exists()
        assert daemon.get(path) == [f"{path}/data"]
