import os
from pathlib import Path

from lxdpy.linux.remove import remove


def test_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_DIRECTORY)
    for _ in range(2500):
        os.mkdir("down", dir_fd=fd)
        below = os.open("down", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove(top)
    assert not top.exists()


def test_links_are_not_followed_and_odd_names_go(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "link").symlink_to(kept)
    (top / "a" / "file").write_text("x")
    os.mkdir(os.fsencode(top) + b"/\xff")
    remove(top)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_file_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    remove(tmp_path / "file")
    remove(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
