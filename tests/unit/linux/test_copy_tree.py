"""Copies of trees: everything is there, and nothing but what is in the tree."""

import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdpy.linux.copy_tree import copy_tree, disk_usage


@pytest.fixture
def place() -> Iterator[Path]:
    # Not on a tmpfs: extended attributes, and holes.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def test_everything_is_kept(place: Path) -> None:
    source = place / "source"
    (source / "below").mkdir(parents=True)
    (source / "below/file").write_bytes(b"text")
    (source / "below/file").chmod(0o640)
    os.utime(source / "below/file", ns=(5_000_000_001, 6_000_000_002))
    os.link(source / "below/file", source / "again")
    (source / "link").symlink_to("/nowhere/at all")
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(source / "socket"))
    with (source / "holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
        file.truncate(8 << 20)
    os.setxattr(source / "below/file", "user.note", b"kept")
    source.chmod(0o711)
    os.utime(source, ns=(1_000_000_000, 2_000_000_000))

    copy_tree(str(source), str(place / "target"))

    target = place / "target"
    assert sorted(os.listdir(target)) == sorted(os.listdir(source))
    assert (target / "below/file").read_bytes() == b"text"
    found = (target / "below/file").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns, found.st_nlink) == (0o640, 6_000_000_002, 2)
    assert found.st_ino == (target / "again").stat().st_ino
    assert os.getxattr(target / "below/file", "user.note") == b"kept"
    assert os.readlink(target / "link") == "/nowhere/at all"
    assert stat.S_ISFIFO((target / "fifo").stat().st_mode)
    assert stat.S_ISSOCK((target / "socket").stat().st_mode)
    holes = (target / "holes").stat()
    assert (holes.st_size, (target / "holes").read_bytes()[1 << 20]) == (8 << 20, ord("x"))
    assert holes.st_blocks * 512 < 1 << 20
    assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_mtime_ns) == (0o711, 2_000_000_000)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away and makes devices")
def test_owners_setuid_bits_devices_and_capabilities_are_kept(place: Path) -> None:
    source = place / "source"
    source.mkdir()
    (source / "program").write_bytes(b"#!")
    os.chown(source / "program", 100, 101)
    (source / "program").chmod(0o4755)
    (source / "ping").write_bytes(b"#!")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(source / "ping", "security.capability", capability)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / "null").chmod(0o666)

    copy_tree(str(source), str(place / "target"))

    found = (place / "target/program").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (100, 101, 0o4755)
    assert os.getxattr(place / "target/ping", "security.capability") == capability
    device = (place / "target/null").stat()
    assert (device.st_rdev, stat.S_IMODE(device.st_mode)) == (os.makedev(1, 3), 0o666)


def test_trees_may_be_deeper_than_any_path(place: Path) -> None:
    depth = 300
    name = "d" * 40
    top = place / "source"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    copy_tree(str(top), str(place / "target"))
    assert disk_usage(str(place / "target")) == disk_usage(str(top))
    for tree in ("source", "target"):
        os.system(f"rm -rf {place / tree}")


def test_who_swaps_a_directory_for_a_link_gets_nothing_of_what_that_leads_to(place: Path) -> None:
    source, secret = place / "source", place / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    (source / "a").mkdir(parents=True)
    (source / "a/file").write_text("open")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (source / "a").rename(source / "b")
            (source / "a").symlink_to(secret)
            (source / "a").unlink()
            (source / "b").rename(source / "a")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(200):
            copy_tree(str(source), str(place / f"target{number}"))
    finally:
        stop.set()
        thread.join()
    for target in place.glob("target*"):
        for file in target.rglob("*"):
            if file.is_file() and not any(parent.is_symlink() for parent in (file, *file.parents)):
                assert file.read_text() == "open"


def test_usage_counts_every_file_once(place: Path) -> None:
    (place / "file").write_bytes(b"x" * 100_000)
    one = disk_usage(str(place))
    os.link(place / "file", place / "again")
    assert disk_usage(str(place)) == one
    assert one >= 100_000


def test_a_target_that_exists_is_not_touched(place: Path) -> None:
    (place / "source").mkdir()
    (place / "target").mkdir()
    with pytest.raises(FileExistsError):
        copy_tree(str(place / "source"), str(place / "target"))
