"""Looking into a tree that does its best to lead outside."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.workers.lifecycle.rootfs import MAX_TEXT_BYTES, Rootfs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of the host")
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_text("")
    (root / "bin/sh").chmod(0o755)
    (root / "bin/data").write_text("text")
    (root / "up").symlink_to("../../secret")
    (root / "usr-bin").symlink_to("/bin")
    return root


@pytest.fixture
def rootfs(tree: Path) -> Iterator[Rootfs]:
    fd = os.open(tree, os.O_PATH)
    yield Rootfs(fd, None)
    os.close(fd)


def test_links_stay_inside(rootfs: Rootfs, tree: Path) -> None:
    assert rootfs.read_text("/up") == ""
    (tree / "secret").write_text("of the image")
    assert rootfs.read_text("/up") == "of the image"
    assert rootfs.read_text("/../../../secret") == "of the image"


def test_texts_that_are_none(rootfs: Rootfs, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    assert [rootfs.read_text(path) for path in ("/fifo", "/bin", "/missing")] == ["", "", ""]
    (tree / "huge").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    with pytest.raises(InvalidRequestError, match="/huge of the image is larger"):
        rootfs.read_text("/huge")


@pytest.mark.parametrize("path", ["/a/b/c", "/usr-bin/x", "/", "/bin/../deep/er", "a//b/"])
def test_make_directory(rootfs: Rootfs, tree: Path, path: str) -> None:
    os.close(rootfs.make_directory(path))
    os.close(rootfs.make_directory(path))


@pytest.mark.parametrize("path", ["/bin/sh", "/bin/sh/x", "/up"])
def test_directory_that_can_not_be(rootfs: Rootfs, path: str) -> None:
    with pytest.raises(InvalidRequestError, match=path):
        rootfs.make_directory(path)


def test_make_file(rootfs: Rootfs, tree: Path) -> None:
    os.close(rootfs.make_file("/etc/new/resolv.conf"))
    assert (tree / "etc/new/resolv.conf").read_text() == ""
    (tree / "etc/link").symlink_to("../run/systemd/resolv.conf")
    os.close(rootfs.make_file("/etc/link"))
    assert (tree / "run/systemd/resolv.conf").is_file()
    (tree / "etc/loop").symlink_to("loop")
    with pytest.raises(InvalidRequestError, match="/etc/loop"):
        rootfs.make_file("/etc/loop")
    with pytest.raises(InvalidRequestError, match="/bin"):
        rootfs.make_file("/bin")
    assert rootfs.read_text("/bin/data") == "text"
    os.close(rootfs.make_file("/bin/data"))
    assert rootfs.read_text("/bin/data") == "text"


@pytest.mark.parametrize(
    ("program", "search_path", "cwd", "reason"),
    [
        ("sh", "/none:/usr-bin", "/", None),
        ("/bin/sh", "", "/", None),
        ("./sh", "", "/bin", None),
        ("../bin/sh", "", "/usr-bin", None),
        ("sh", "", "/bin", None),
        ("nope", "/bin:/none", "/", r'"nope" not found in \$PATH of the image'),
        ("data", "/none:/bin", "/", '"data" is not executable in /bin of the image'),
        ("/bin", "", "/", '"/bin" is a directory in the image'),
        ("/bin/data", "", "/", '"/bin/data" is not executable in the image'),
        ("/x/y", "", "/", '"/x/y" not found in the image'),
        ("/bin/sh/y", "", "/", "not found"),
    ],
)
def test_check_executable(rootfs: Rootfs, program: str, search_path: str, cwd: str, reason: str | None) -> None:
    if reason is None:
        rootfs.check_executable(program, search_path, cwd)
        return
    with pytest.raises(InvalidRequestError, match=reason):
        rootfs.check_executable(program, search_path, cwd)


def test_make_file_opens_nothing_that_is_there(rootfs: Rootfs, tree: Path) -> None:
    (tree / "etc").mkdir()
    os.mkfifo(tree / "etc/hosts")
    reader = os.open(tree / "etc/hosts", os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    os.close(rootfs.make_file("/etc/hosts"))
    # A pipe that somebody has had open for writing is at its end.
    assert poll.poll(0) == []
    os.close(reader)
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        rootfs.make_file("/etc")


def test_write(rootfs: Rootfs, tree: Path) -> None:
    (tree / "bin/there").write_text("a text that is longer than the new one")
    (tree / "bin/there").chmod(0o600)
    rootfs.write("/bin/there", b"new\n", create_only=False)
    assert (tree / "bin/there").read_bytes() == b"new\n"
    assert (tree / "bin/there").stat().st_mode & 0o777 == 0o600
    rootfs.write("/bin/there", b"newer\n", create_only=True)
    assert (tree / "bin/there").read_bytes() == b"new\n"
    rootfs.write("/srv/deep/made", b"made\n", create_only=True)
    assert (tree / "srv/deep/made").read_bytes() == b"made\n"
    assert (tree / "srv/deep/made").stat().st_mode & 0o777 == 0o644


def test_write_stays_inside(rootfs: Rootfs, tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.write_text("as it was")
    (tree / "bin/up").symlink_to("../../../../../../" + str(outside))
    (tree / "bin/absolute").symlink_to(outside)
    for path in ("/bin/up", "/bin/absolute", "/../../../outside"):
        rootfs.write(path, b"x", create_only=False)
    assert outside.read_text() == "as it was"


def test_write_to_what_is_no_file(rootfs: Rootfs, tree: Path) -> None:
    os.mkfifo(tree / "bin/fifo")
    for path, reason in (("/bin/fifo", "no regular file"), ("/bin", "Is a directory")):
        with pytest.raises(InvalidRequestError, match=reason):
            rootfs.write(path, b"x", create_only=False)
