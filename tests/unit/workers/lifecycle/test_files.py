"""What a file session answers, on a directory that stands for a root file system."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, NotFoundError
from lxdpy.workers.lifecycle import files
from lxdpy.workers.lifecycle.files import Tree

NOTHING = {"uid": None, "gid": None, "mode": None, "modify": [], "modified": None}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("host")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    descriptors = [os.open(root, os.O_PATH | os.O_DIRECTORY), os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY)]
    mask = os.umask(0)
    yield Tree(*descriptors, root.stat().st_dev)
    os.umask(mask)
    for fd in descriptors:
        os.close(fd)


def ask(tree: Tree, verb: str, path: str, **parameters: object) -> tuple[dict[str, object], bytes | None]:
    """The answer, and what is in the file whose descriptor came with it."""
    answer, fds = tree.answer({"op": verb, "path": path, **NOTHING, **parameters})
    data = None
    for fd in fds:
        if verb == "open":
            data = os.read(fd, 1000)
        os.close(fd)
    return answer, data


def write(tree: Tree, path: str, data: bytes, **parameters: object) -> bool:
    answer, (fd,) = tree.answer({"op": "write", "path": path, "append": False, **NOTHING, **parameters})
    os.write(fd, data)
    os.close(fd)
    return answer["new"] is True


def test_files(tree: Tree, root: Path) -> None:
    assert write(tree, "/one", b"one", mode=0o604)
    assert not write(tree, "one", b"two", mode=0o777)
    assert (root / "one").read_text() == "two"
    assert not write(tree, "/one", b"three", append=True)
    answer, data = ask(tree, "open", "/one")
    assert data == b"twothree"
    status = answer["status"]
    assert isinstance(status, dict)
    assert (status["kind"], status["mode"], status["size"]) == ("file", 0o604, 8)
    write(tree, "/one", b"", mode=0o640, modify=["mode"])
    assert (root / "one").stat().st_mode & 0o7777 == 0o640
    assert write(tree, "/plain", b"")
    assert (root / "plain").stat().st_mode & 0o7777 == 0o644
    with pytest.raises(NotFoundError, match='Cannot write "/none": No such file'):
        write(tree, "/none", b"", append=True)
    assert not (root / "none").exists()


def test_directories(tree: Tree, root: Path) -> None:
    assert ask(tree, "directory", "/a/") == ({"new": True}, None)
    assert ask(tree, "directory", "/a", mode=0o700, modified=5) == ({"new": False}, None)
    assert (root / "a").stat().st_mode & 0o7777 == 0o750
    assert (root / "a").stat().st_mtime_ns == 5
    ask(tree, "directory", "/a", mode=0o1700, modify=["mode"])
    assert (root / "a").stat().st_mode & 0o7777 == 0o1700
    write(tree, "/a/b", b"")
    assert ask(tree, "open", "/a")[0]["names"] == ["b"]
    assert ask(tree, "open", "/")[0]["names"] == ["a"]
    with pytest.raises(ConflictError, match="something else is there"):
        ask(tree, "directory", "/a/b")
    with pytest.raises(NotFoundError):
        ask(tree, "directory", "/x/y")


def test_too_many_names(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_NAMES", 2)
    for name in "ab":
        write(tree, f"/{name}", b"")
    assert ask(tree, "open", "/")[0]["names"] == ["a", "b"]
    write(tree, "/c", b"")
    with pytest.raises(InvalidRequestError, match='Cannot list "/": it has more than 2 entries'):
        ask(tree, "open", "/")


def test_links(tree: Tree, root: Path) -> None:
    assert ask(tree, "symlink", "/link", target="../x", modified=7) == ({"new": True}, None)
    assert (root / "link").lstat().st_mtime_ns == 7
    assert ask(tree, "symlink", "/link", target="../x") == ({"new": False}, None)
    with pytest.raises(ConflictError, match="File exists"):
        ask(tree, "symlink", "/link", target="other")
    assert ask(tree, "open", "/link")[0]["target"] == "../x"
    # What is written through it stays in the root.
    assert write(tree, "/link", b"in")
    assert (root / "x").read_text() == "in"
    assert not (root.parent / "x").exists()


def test_delete(tree: Tree, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/f").write_text("")
    (root / "l").symlink_to("d")
    with pytest.raises(InvalidRequestError, match='Cannot delete "/d": Directory not empty'):
        ask(tree, "delete", "/d")
    for path in ("/l", "/d/f", "/d/"):
        ask(tree, "delete", path)
    assert list(root.iterdir()) == []
    with pytest.raises(NotFoundError):
        ask(tree, "delete", "/d")
    for path in ("/", "/..", "/d/.", "."):
        with pytest.raises(InvalidRequestError, match="not the path of a file"):
            ask(tree, "delete", path)


@pytest.mark.parametrize("target", ["{outside}", "../outside", "/../../outside", "/proc/self/root{outside}"])
def test_nothing_leads_out(tree: Tree, root: Path, target: str) -> None:
    outside = root.parent / "outside"
    (root / "trap").symlink_to(target.format(outside=outside))
    (root / "way").symlink_to(os.path.dirname(target.format(outside=outside)))
    for path in ("/trap", "/way/outside", "/../outside"):
        try:
            write(tree, path, b"written")
        except LxdpyError:
            pass
    assert outside.read_text() == "host"


def test_what_is_no_file(tree: Tree, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "devices").symlink_to("pipe")
    for verb, parameters in (("open", {}), ("write", {"append": False})):
        with pytest.raises(InvalidRequestError, match='Cannot open "/pipe": it is a named pipe'):
            ask(tree, verb, "/pipe", **parameters)
    with pytest.raises(InvalidRequestError, match="it is a named pipe"):
        ask(tree, "write", "/devices", append=False)
    status = ask(tree, "status", "/pipe")[0]["status"]
    assert isinstance(status, dict)
    assert status["kind"] == "named pipe"
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        ask(tree, "write", "/", append=False)


def test_names_that_are_no_text(tree: Tree, root: Path) -> None:
    name = b"a\xff\n".decode("utf-8", "surrogateescape")
    write(tree, f"/{name}", b"odd")
    assert os.listdir(os.fsencode(root)) == [b"a\xff\n"]
    assert ask(tree, "open", "/")[0]["names"] == [name]
    with pytest.raises(NotFoundError, match='Cannot read "/a\ufffd\\\\nx"'):
        ask(tree, "open", f"/{name}x")
