import grp
import os
import socket
from pathlib import Path

import pytest

from lxdpy.daemon import sockets
from lxdpy.errors import BusyError, WorkerError


def test_one_daemon_per_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    fd = sockets.lock(state)
    assert state.stat().st_mode & 0o7777 == 0o711
    with pytest.raises(BusyError, match="another lxdpy daemon"):
        sockets.lock(state)
    os.close(fd)
    os.close(sockets.lock(state))


def test_a_state_directory_that_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkerError, match="Cannot use state directory"):
        sockets.lock(tmp_path / "file")


@pytest.mark.root
def test_listen_replaces_a_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    group = grp.getgrgid(os.getgid()).gr_name
    for _ in range(2):
        with sockets.listen(path, group):
            status = path.stat()
            assert status.st_mode & 0o7777 == 0o660
            assert status.st_gid == os.getgid()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    with sockets.listen(path, "no-such-group-here"):
        assert path.stat().st_mode & 0o7777 == 0o660


def test_a_path_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="Cannot listen"):
        sockets.listen(tmp_path / "none" / "unix.socket", "x")
