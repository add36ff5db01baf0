#!/usr/bin/python3
"""A private registry with token authentication on free loopback ports: docker-registry beside `token_server`.

    python3 deploy/example_registry.py --directory DIR

DIR gets everything: key and certificate, config.yml, the registry's log and its blobs, and `address` (HOST:PORT) as
soon as the registry answers. SIGTERM ends both. The docker-registry service that Debian's package brings is not used.

Tests use `ExampleRegistry(directory)` as a context manager.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from token_server import Signer, TokenServer

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")
_START_TIMEOUT_S = 20.0


class ExampleRegistry:
    """A running registry; `host` is its HOST:PORT, `user` and `password` are what a push needs.

    Raises RuntimeError, with the end of the log, when docker-registry is missing or does not start.
    """

    def __init__(self, directory: Path, *, token_lifetime_s: int = 300) -> None:
        self.directory = directory
        self.host = ""
        self.tokens = TokenServer(Signer(directory), lifetime_s=token_lifetime_s)
        self.user = self.tokens.user
        self.password = self.tokens.password
        self.log = directory / "registry.log"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.tokens)
            process = self._spawn()
            stack.callback(_end, process)
            self.host = self._wait_until_listening(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        binary = shutil.which("docker-registry")
        if binary is None:
            raise RuntimeError("Cannot start the example registry: docker-registry is not installed")
        config = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "cache": {"blobdescriptor": "inmemory"},
                "delete": {"enabled": True},
                "filesystem": {"rootdirectory": str(self.directory / "storage")},
            },
            # The kernel chooses the port; the log tells which.
            "http": {"addr": "127.0.0.1:0"},
            "auth": self.tokens.configuration(),
        }
        # JSON is YAML.
        path = self.directory / "config.yml"
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")
        with self.log.open("wb") as log:
            return subprocess.Popen([binary, "serve", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait_until_listening(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            if match := _LISTENING.search(self.log.read_text(encoding="utf-8", errors="replace")):
                return match[1]
            time.sleep(0.02)
        tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
        raise RuntimeError(f"Cannot start the example registry: docker-registry does not listen:\n{tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A registry with token authentication on loopback.")
    parser.add_argument("--directory", type=Path, required=True, help="for all that it writes")
    parser.add_argument("--token-lifetime", type=int, default=300, metavar="SECONDS", help="default: %(default)s")
    options = parser.parse_args()
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with ExampleRegistry(options.directory, token_lifetime_s=options.token_lifetime) as registry:
            part = options.directory / "address.part"
            part.write_text(f"{registry.host}\n", encoding="ascii")
            part.rename(options.directory / "address")
            print(f"registry on {registry.host}, token service at {registry.tokens.realm}", flush=True)
            signal.sigwait(ends)
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
