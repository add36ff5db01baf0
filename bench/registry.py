"""Debian's docker-registry on a loopback port of its own, its access log read back as requests."""

import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: false}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {root}, maxthreads: 100}}
http: {{addr: "{host}"}}
"""
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>/v2/\S*) HTTP/[\d.]+" (?P<status>\d+)')


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the access log."""

    method: str
    path: str
    status: int


class Registry:
    """A registry over `storage`; a context manager."""

    def __init__(self, storage: Path, log: Path) -> None:
        self._storage = storage
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"

    def __enter__(self) -> Self:
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as config, self._log.open("wb") as log:
            config.write(CONFIG.format(root=self._storage, host=self.host))
            config.flush()
            self._process = subprocess.Popen(
                ["docker-registry", "serve", config.name], stdout=log, stderr=subprocess.STDOUT
            )
            try:
                self._wait_until_open()
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def requests(self, since: int = 0) -> list[Request]:
        """All requests of the access log after the first `since`."""
        found = [
            Request(match["method"], match["path"], int(match["status"]))
            for match in _ACCESS.finditer(self._log.read_text(errors="replace"))
        ]
        return found[since:]

    def _wait_until_open(self) -> None:
        host, port = self.host.split(":")
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"docker-registry did not start: {self._log.read_text()[-2000:]}") from None
                time.sleep(0.02)
