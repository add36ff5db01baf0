"""A login that somebody else than the registry asks for."""

import hashlib
import os
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lxdpy.drivers.base import BlobEndpoint
from lxdpy.errors import RegistryError
from lxdpy.workers.layers.feed import Feed
from lxdpy.workers.layers.fetch import Fetch


class Elsewhere(BaseHTTPRequestHandler):
    """On localhost it asks for a login; under its other name, the registry's, it leads there."""

    def do_GET(self) -> None:
        host, _, port = self.headers["Host"].partition(":")
        if host == "127.0.0.1":
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{port}/blob")
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Bearer realm="https://thief.example/"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_nobody_else_asks_for_a_login(tmp_path: Path) -> None:
    def renew(endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        pytest.fail(f"asked to log in by {challenges}")

    fd = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
        fetch = Fetch(Feed(fd, 0), digest, 1, renew=renew, progress=lambda _: None, idle_timeout_s=5)
        endpoint = BlobEndpoint(f"http://127.0.0.1:{server.server_port}/blob", {"Authorization": "Basic c2VjcmV0"})
        with pytest.raises(RegistryError, match="401"):
            fetch.run([endpoint])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        os.close(fd)
