"""A fake LXD on a socket of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.lxd_server import FakeLxd, serve


@pytest.fixture
def socket(tmp_path: Path) -> str:
    """Path of the server's socket."""
    return str(tmp_path / "unix.socket")


@pytest.fixture
def server(socket: str) -> Iterator[FakeLxd]:
    """A running server."""
    with serve(Path(socket)) as fake:
        yield fake
