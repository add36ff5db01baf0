"""Only a pty multiplexer is opened where a container should have one."""

import os
import stat
from pathlib import Path

import pytest

from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.lifecycle.terminal import _open_master


@pytest.mark.parametrize("kind", ["missing", "fifo", "file", "link"])
def test_something_else(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "dev/pts/ptmx"
    place.parent.mkdir(parents=True)
    match kind:
        case "fifo":
            os.mkfifo(place)
        case "file":
            place.touch()
        case "link":
            # Resolved within the container, where there is none.
            place.symlink_to("/../../../../../../../dev/ptmx")
    root_fd = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(FileNotFoundError):
            _open_master(Rootfs(root_fd, None))
    finally:
        os.close(root_fd)


def test_the_real_one(tmp_path: Path) -> None:
    if not Path("/dev/pts/ptmx").exists():
        pytest.skip("no devpts here")
    root_fd = os.open("/", os.O_PATH)
    try:
        master = _open_master(Rootfs(root_fd, None))
    finally:
        os.close(root_fd)
    assert stat.S_ISCHR(os.fstat(master).st_mode)
    os.close(master)
