"""Packing trees that a container made odd on purpose."""

import errno
import os
from pathlib import Path

import pytest

from lxdpy.workers.layers.pack import Tar
from lxdpy.workers.layers.tar import TarReader


def test_attributes_with_names_that_no_tar_can_hold_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    try:
        for name in (b"user.\xff", b"user.a=b", "user.\u00fc".encode()):
            os.setxattr(file, name, b"value")
    except OSError as exc:
        if exc.errno == errno.EOPNOTSUPP:
            pytest.skip("this file system has no extended attributes")
        raise
    packed = bytearray()
    tar = Tar(packed.extend, lambda count: None)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tar.tree("rootfs/", fd)
    finally:
        os.close(fd)
    tar.end()
    found = {entry.path: entry.xattrs for entry in TarReader([bytes(packed)])}
    assert found[b"rootfs/file"] == [("user.\u00fc".encode(), b"value")]
