"""Paths that stay where they must."""

import errno
import os
from pathlib import Path

import pytest

from lxdpy.linux.openat2 import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, openat2


def test_resolution(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    (tmp_path / "absolute").symlink_to("/file")
    fd = os.open(tmp_path, os.O_PATH)
    with open(openat2(fd, b"absolute", os.O_RDONLY | os.O_CLOEXEC, resolve=RESOLVE_IN_ROOT)) as file:
        assert file.read() == "here"
    for path, resolve, code in (
        ("absolute", RESOLVE_BENEATH, errno.EXDEV),
        ("..", RESOLVE_BENEATH, errno.EXDEV),
        ("absolute", RESOLVE_NO_SYMLINKS, errno.ELOOP),
        ("missing", RESOLVE_IN_ROOT, errno.ENOENT),
    ):
        with pytest.raises(OSError) as caught:
            openat2(fd, path, os.O_RDONLY, resolve=resolve)
        assert (caught.value.errno, caught.value.filename) == (code, path)
    os.close(openat2(fd, "new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode=0o600, resolve=RESOLVE_BENEATH))
    os.close(fd)
