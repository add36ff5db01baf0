import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lxdpy.daemon import systemd


def test_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        systemd.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_notify_on_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"lxdpy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.notify("STOPPING=1")
        assert manager.recv(100) == b"STOPPING=1"


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.activated_socket() is None


def test_socket_activation(tmp_path: Path) -> None:
    """As systemd does it: the listening socket is descriptor 3 of a new process."""
    path = tmp_path / "unix.socket"
    script = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from pathlib import Path\n"
        "from lxdpy.daemon import sockets\n"
        "sock = sockets.listen(Path('/nonexistent/unix.socket'), 'nogroup')\n"
        "print(sock.getsockname(), os.get_inheritable(sock.fileno()))\n"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        done = subprocess.run(
            ["bash", "-c", f'exec "$0" -c "$1" 3<&{listening.fileno()}', sys.executable, script],
            pass_fds=(listening.fileno(),),
            env={**os.environ, "LISTEN_FDS": "1"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert done.stdout == f"{path} False\n"
