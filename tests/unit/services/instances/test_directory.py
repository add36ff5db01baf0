import stat
from pathlib import Path

import pytest

from lxdpy.errors import InvalidRequestError, NotFoundError, WorkerError
from lxdpy.services.instances.directory import InstanceDirectories

RW = "rw-1f"


@pytest.fixture
def directories(tmp_path: Path) -> InstanceDirectories:
    made = InstanceDirectories(tmp_path)
    assert made.sweep({}) == []
    made.create("web", RW)
    return made


def test_no_other_user_reaches_what_a_container_wrote(directories: InstanceDirectories) -> None:
    assert stat.S_IMODE((directories.path("web") / RW).stat().st_mode) == 0o700
    assert stat.S_IMODE((directories.path("web") / RW / "upper").stat().st_mode) == 0o755
    assert stat.S_IMODE((directories.path("web") / "logs").stat().st_mode) == 0o700


def test_a_directory_that_is_there_is_not_taken_over(directories: InstanceDirectories) -> None:
    (directories.path("web") / RW / "upper/data").write_text("x")
    with pytest.raises(WorkerError, match='directory of instance "web"'):
        directories.create("web", RW)
    assert [path.name for path in directories.root.iterdir()] == ["web"]
    assert (directories.path("web") / RW / "upper/data").exists()


def test_logs(directories: InstanceDirectories) -> None:
    path = directories.path("web")
    (path / "console.log").write_text("hello")
    (path / "logs/exec_1.stdout").write_text("out")
    assert directories.log_files("web") == ["console.log", "exec_1.stdout"]
    for file, text in (("console.log", b"hello"), ("exec_1.stdout", b"out")):
        with directories.open_log("web", file) as log:
            assert log.read() == text
    directories.delete_log("web", "exec_1.stdout")
    assert directories.log_files("web") == ["console.log"]
    with pytest.raises(InvalidRequestError, match="only recorded output"):
        directories.delete_log("web", "console.log")


@pytest.mark.parametrize("file", ["", ".", "..", "../run.json", "a/b", ".hidden", "a\0b", "a\nb", "x" * 300, "none"])
def test_names_of_no_log(directories: InstanceDirectories, file: str) -> None:
    (directories.path("web") / "run.json").write_text("{}")
    with pytest.raises(NotFoundError, match="not found"):
        directories.open_log("web", file)
    with pytest.raises(NotFoundError, match="not found"):
        directories.delete_log("web", file)


def test_logs_of_an_instance_that_goes_away(directories: InstanceDirectories) -> None:
    trash = directories.discard("web")
    with pytest.raises(NotFoundError):
        directories.log_files("web")
    assert trash is not None
    directories.remove(trash)
    assert list(directories.root.iterdir()) == []
    assert directories.discard("web") is None


def test_network_files_are_written_anew_only_when_they_differ(directories: InstanceDirectories) -> None:
    path = directories.path("web") / "network/hosts"
    directories.write_network_files("web", {"hosts": "one\n"}, 0)
    inode, changed = path.stat().st_ino, path.stat().st_mtime_ns
    directories.write_network_files("web", {"hosts": "one\n"}, 0)
    assert path.stat().st_mtime_ns == changed
    path.write_text("two\n")
    directories.write_network_files("web", {"hosts": "one\n"}, 0)
    assert path.read_text() == "one\n"
    with path.open("wb") as file:
        # More than the daemon could hold: sparse, as a container's root may make it.
        file.truncate(1 << 40)
    directories.write_network_files("web", {"hosts": "one\n"}, 0)
    assert path.read_text() == "one\n"
    assert path.stat().st_ino == inode


def test_sweep(directories: InstanceDirectories) -> None:
    for name in (".tmp-1", ".trash-2", "orphan"):
        (directories.root / name / "rw").mkdir(parents=True)
    for name in ("rw-2e", "rw-3d"):
        (directories.path("web") / name / "upper").mkdir(parents=True)
    for leftover in directories.sweep({"web": RW}):
        directories.remove(leftover)
    assert [path.name for path in directories.root.iterdir()] == ["web"]
    assert sorted(path.name for path in directories.path("web").iterdir()) == ["logs", "network", "rootfs", RW]
