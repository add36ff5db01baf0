"""Which socket is meant."""

import subprocess
import sys

import pytest

from lxdpy.client.endpoint import DEFAULT_SOCKET, socket_path


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"LXDPY_SOCKET": "/a", "LXD_SOCKET": "/b", "LXD_DIR": "/c"}, "/a"),
        ({"LXD_SOCKET": "/b", "LXD_DIR": "/c"}, "/b"),
        ({"LXD_DIR": "/c"}, "/c/unix.socket"),
        ({"LXDPY_SOCKET": ""}, DEFAULT_SOCKET),
    ],
)
def test_socket_path(environ: dict[str, str], path: str) -> None:
    assert socket_path(environ) == path


def test_importing_lxdpy_imports_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import lxdpy; print(sorted(set(sys.modules) - before))"
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True)
    assert eval(done.stdout) == ["lxdpy"]
