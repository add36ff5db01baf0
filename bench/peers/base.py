"""What every peer can do, and how its daemon is started, reached and removed.

Every peer is driven over its unix socket by one httpx client with kept-alive connections; no command line tool and
no client library lies between the clock and the daemon.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bench import processes


class PeerError(RuntimeError):
    """A daemon did not start, or refused what a bench asked of it."""


class Peer(ABC):
    """One daemon on directories of its own; a context manager that leaves nothing running or mounted."""

    name: str
    ping: str

    def __init__(self, directory: Path, registry: str) -> None:
        """Keep everything below `directory`; images come from `registry` (host:port)."""
        self.directory = directory
        self.registry = registry
        self.socket = directory / "unix.socket"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Why this peer can't run here, or None."""

    @abstractmethod
    def command(self) -> list[str]:
        """The daemon's command line."""

    def environment(self) -> dict[str, str]:
        """What the daemon's environment has beside ours."""
        return {}

    @abstractmethod
    def configure(self) -> None:
        """Give a fresh daemon what containers need: storage, and busybox."""

    # What is timed.

    @abstractmethod
    def pull(self, reference: str) -> None:
        """Pull an image of the registry and wait until it is usable."""

    @abstractmethod
    def create(self, name: str, *, image: str = "busybox:1") -> None:
        """Create a container without a network."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Start it, and wait until the daemon says that it runs."""

    @abstractmethod
    def run_to_exit(self, name: str) -> None:
        """Create and start a container whose command is `true`, wait for its exit, delete it."""

    @abstractmethod
    def execute(self, name: str, command: Sequence[str]) -> None:
        """Run a command in a running container and wait for its exit status, which must be 0."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """Stop by force, and wait until the daemon says that it is stopped."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a stopped container."""

    @abstractmethod
    def listing(self, *, with_state: bool) -> int:
        """List all containers; how many there are."""

    @abstractmethod
    def init_pid(self, name: str) -> int:
        """The container's first process."""

    # Life of the daemon.

    def __enter__(self) -> Self:
        if reason := self.missing():
            raise PeerError(f"Cannot start {self.name}: {reason}")
        self.directory.mkdir(parents=True)
        with (self.directory / "daemon.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment()},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        transport = httpx.HTTPTransport(uds=str(self.socket), limits=httpx.Limits(max_connections=16))
        self.http = httpx.Client(transport=transport, base_url="http://localhost", timeout=600)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(value, PeerError) and str(value).startswith(f"{self.name}:"):
            print(f"bench: {self.name}'s log ends with:\n{self._log_end()}", file=sys.stderr)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process is not None
        return self._process.pid

    def daemon_pss_mib(self, running: Sequence[str] = ()) -> float:
        """Memory of the daemon with its helpers; the monitors of `running` containers are not part of it."""
        return processes.pss_mib(processes.tree(self.pid, without=[self.monitor_pid(name) for name in running]))

    def monitor_pid(self, name: str) -> int:
        """The process that watches a running container: the parent of its first process."""
        return processes.parent(self.init_pid(name))

    def call(self, method: str, path: str, body: Any = None, *, allow: Sequence[int] = ()) -> httpx.Response:
        """One request; an error status other than those of `allow` is a PeerError."""
        response = self.http.request(method, path, json=body) if body is not None else self.http.request(method, path)
        if response.is_error and response.status_code not in allow:
            raise PeerError(f"{self.name}: {method} {path}: {response.status_code} {response.text[:500]}")
        return response

    def close(self) -> None:
        """Stop the daemon and every process of it, unmount what it mounted; its files stay until `remove`."""
        self.http.close()
        process = self._process
        if process is None:
            return
        # By pidfd: a number may mean another process by the time that the daemon has ended.
        family = [os.pidfd_open(pid) for pid in processes.tree(process.pid)[1:]]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pidfd in family:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._kill_orphans()
        unmount_below(self.directory)

    def _kill_orphans(self) -> None:
        """Kill shims and monitors that outlived the daemon: init's children that name this peer's directory."""
        marker = os.fsencode(str(self.directory))
        for pid in processes.children().get(1, ()):
            with suppress(FileNotFoundError, ProcessLookupError):
                if marker in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.http.get(self.ping).is_success:
                    return
            except httpx.TransportError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{self.name} did not start: {self._log_end()}")
            time.sleep(0.02)

    def _log_end(self) -> str:
        return (self.directory / "daemon.log").read_text(errors="replace")[-2000:]


def unmount_below(directory: Path) -> None:
    """Detach every mount below `directory`, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [point for point in points if point == str(directory) or point.startswith(f"{directory}/")]
    for point in sorted(below, reverse=True):
        subprocess.run(["umount", "--lazy", point.encode().decode("unicode_escape")], check=False)


def remove(directory: Path) -> None:
    """Delete a bench's files; refuses while anything is mounted there."""
    if any(f" {directory}/" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        raise PeerError(f"Cannot delete {directory}: something is still mounted there")
    shutil.rmtree(directory)
