"""LXD's client exports instances and imports them again, with their snapshots, from and to LXD itself."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system import systems
from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc
from tests.system.lxd import lxd as a_real_lxd

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


def shell(lxc: Lxc, name: str, script: str) -> str:
    return lxc.ok("exec", name, "--", "sh", "-c", script).strip()


def backups(daemon: Daemon) -> list[Path]:
    return list((daemon.state_dir / "backups").iterdir())


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_app_comes_back_with_its_snapshots(lxc: Lxc, web: str, daemon: Daemon, compression: str) -> None:
    shell(lxc, web, "echo old > /file; chown 7:8 /file; rm /etc/passwd")
    lxc.ok("snapshot", web, "before")
    shell(lxc, web, "echo new > /file; ln /file /twin")
    lxc.ok("config", "set", web, "user.mine", "1")
    file = daemon.state_dir.parent / f"{compression}.tar"
    # It runs: what is in the backup is what it had written by then.
    lxc.ok("export", web, str(file), "--compression", compression)
    assert backups(daemon) == []
    if compression != "zstd":
        with tarfile.open(file) as tar:
            names = tar.getnames()
        assert names[0] == "backup/index.yaml"
        assert {"backup/container/backup.yaml", "backup/snapshots/before/rootfs/file"} <= set(names)
    lxc.ok("import", str(file), "again")
    assert lxc.ok("config", "get", "again", "user.mine").strip() == "1"
    lxc.ok("start", "again")
    assert shell(lxc, "again", "cat /file; stat -c %u:%g:%h /file; ls /etc/passwd 2>&1 | wc -l") == "new\n7:8:2\n1"
    lxc.ok("restore", "again", "before")
    assert shell(lxc, "again", "cat /file; ls /twin 2>/dev/null || echo gone") == "old\ngone"
    assert "already exists" in lxc.fails("import", str(file))
    file.unlink()


def test_an_instance_alone_by_its_own_name(lxc: Lxc, web: str, daemon: Daemon) -> None:
    lxc.ok("snapshot", web, "before")
    lxc.ok("stop", "--force", web)
    file = daemon.state_dir.parent / "alone.tar.gz"
    lxc.ok("export", web, str(file), "--instance-only")
    lxc.ok("delete", web)
    lxc.ok("import", str(file))
    assert lxc.query("/1.0/instances/web/snapshots") == []
    lxc.ok("start", web)
    file.unlink()


def test_backups_are_listed_renamed_and_gone_with_their_instance(lxc: Lxc, web: str, daemon: Daemon) -> None:
    lxc.query("/1.0/instances/web/backups", "POST", {"name": "", "instance_only": True})
    lxc.query("/1.0/instances/web/backups", "POST", {"name": "named"})
    listed = lxc.query("/1.0/instances/web/backups?recursion=1")
    assert [(backup["name"], backup["instance_only"]) for backup in listed] == [("backup0", True), ("named", False)]
    lxc.query("/1.0/instances/web/backups/named", "POST", {"name": "other"})
    assert lxc.query("/1.0/instances/web/backups") == [
        "/1.0/instances/web/backups/backup0",
        "/1.0/instances/web/backups/other",
    ]
    assert len(backups(daemon)) == 2
    assert "other" in lxc.ok("info", "web")
    lxc.ok("stop", "--force", web)
    lxc.ok("rename", web, "db")
    assert lxc.query("/1.0/instances/db/backups/other")["name"] == "other"
    lxc.query("/1.0/instances/db/backups/other", "DELETE")
    lxc.ok("delete", "db")
    assert backups(daemon) == []


def test_what_is_no_backup_is_refused(lxc: Lxc, daemon: Daemon) -> None:
    file = daemon.state_dir.parent / "wrong.tar"
    for content in (b"nothing", bytes(10240)):
        file.write_bytes(content)
        assert lxc.fails("import", str(file), "wrong")
    (daemon.state_dir.parent / "file").write_text("")
    with tarfile.open(file, "w") as tar:
        tar.add(daemon.state_dir.parent / "file", "backup/container/rootfs/../../../escaped")
    assert "'../../../escaped'" in lxc.fails("import", str(file), "wrong")
    assert lxc.json("list") == []
    assert not list((daemon.state_dir / "layers").glob("s-*"))
    file.unlink()


@pytest.fixture
def lxd() -> Iterator[Lxc]:
    """The client of an LXD of our own."""
    with a_real_lxd() as client:
        yield client


@pytest.mark.lxd
def test_a_system_goes_to_lxd_and_comes_back(lxc: Lxc, lxd: Lxc, daemon: Daemon, tmp_path: Path) -> None:
    systems.import_busybox(lxc, tmp_path)
    lxc.ok("init", "busybox", "s1")
    lxc.ok("snapshot", "s1", "before")
    lxc.ok("file", "push", "-", "s1/root/made-here", stdin=b"text\n")
    lxc.ok("config", "set", "s1", "user.mine", "1")
    lxc.ok("export", "s1", str(tmp_path / "ours.tar.gz"))
    lxc.ok("delete", "s1")

    lxd.ok("import", str(tmp_path / "ours.tar.gz"), "theirs")
    assert lxd.ok("config", "get", "theirs", "user.mine").strip() == "1"
    assert lxd.ok("file", "pull", "theirs/root/made-here", "-") == "text\n"
    lxd.ok("restore", "theirs", "before")
    assert "Not Found" in lxd.fails("file", "pull", "theirs/root/made-here", "-")
    lxd.ok("file", "push", "-", "theirs/root/made-there", stdin=b"more\n")
    lxd.ok("export", "theirs", str(tmp_path / "theirs.tar.gz"))

    lxc.ok("import", str(tmp_path / "theirs.tar.gz"))
    assert lxc.query("/1.0/instances/theirs/snapshots") == ["/1.0/instances/theirs/snapshots/before"]
    lxc.ok("start", "theirs")
    assert lxc.ok("exec", "theirs", "--", "/bin/cat", "/root/made-there") == "more\n"
    lxc.ok("delete", "--force", "theirs")


@pytest.mark.lxd
def test_a_volume_goes_to_lxd_and_comes_back(lxc: Lxc, lxd: Lxc, daemon: Daemon, tmp_path: Path) -> None:
    lxc.ok("storage", "volume", "create", "default", "data", "user.a=b")
    (place,) = (daemon.state_dir / "storage-pools/default/custom").glob("default_data_*")
    (place / "file").write_text("text")
    lxc.ok("storage", "volume", "snapshot", "default", "data", "before")
    lxc.ok("storage", "volume", "export", "default", "data", str(tmp_path / "ours"))
    lxc.ok("storage", "volume", "delete", "default", "data")
    lxd.ok("storage", "volume", "import", "default", str(tmp_path / "ours"), "theirs")
    assert lxd.ok("storage", "volume", "get", "default", "theirs", "user.a").strip() == "b"
    lxd.ok("storage", "volume", "snapshot", "default", "theirs", "after")
    lxd.ok("storage", "volume", "export", "default", "theirs", str(tmp_path / "theirs"))
    lxd.ok("storage", "volume", "delete", "default", "theirs")
    lxc.ok("storage", "volume", "import", "default", str(tmp_path / "theirs"))
    (place,) = (daemon.state_dir / "storage-pools/default/custom").glob("default_theirs_*")
    assert (place / "file").read_text() == "text"
    snapshots = lxc.query("/1.0/storage-pools/default/volumes/custom/theirs/snapshots?recursion=1")
    assert [snapshot["name"] for snapshot in snapshots] == ["theirs/before", "theirs/after"]
    lxc.ok("storage", "volume", "delete", "default", "theirs")
