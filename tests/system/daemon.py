"""A real daemon, as `lxdpy daemon` runs it, on a state directory of the test's own, and a plain HTTP client to it."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx

SLOT = int(os.environ.get("LXDPY_TEST_SLOT", "1"))
"""Checkouts whose tests run at the same time on one host have one each, from 1 to 8."""

BRIDGE = f"lxdpyt{SLOT}"
GATEWAY = f"10.{200 + SLOT}.0.1"

CLIENTS = Path(__file__).parents[2] / ".cache/clients"
"""What tests/clients.sh has put there."""

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 60.0
_SETTLE_S = 10.0
_FDS_OF_WORKERS = 12
"""Sockets, pidfds, log and database files that the daemon keeps once it has worked."""

Json = dict[str, Any]


class Failed(Exception):
    """The daemon answered with an error, or an operation failed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Daemon:
    """A daemon process. Entering starts it; leaving deletes every instance, stops it and removes its bridge."""

    def __init__(self, state_dir: Path, *, config: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.state_dir = state_dir
        self._environment = dict(environment or {})
        self.log = state_dir.parent / f"{state_dir.name}.log"
        self._config = state_dir.parent / f"{state_dir.name}.toml"
        self._config.write_text(f'[network]\nbridge = "{BRIDGE}"\nipv4_address = "{GATEWAY}/16"\n{config}')
        self._fds_at_start = 0
        self.process: subprocess.Popen[bytes] | None = None
        # One connection a request: none is left open when a test counts descriptors.
        transport = httpx.HTTPTransport(uds=str(self.socket), limits=httpx.Limits(max_keepalive_connections=0))
        self.http = httpx.Client(transport=transport, base_url="http://lxdpy", timeout=120)

    @property
    def socket(self) -> Path:
        return self.state_dir / "unix.socket"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._empty()
            self._check_descriptors()
        finally:
            self.http.close()
            if self.process is not None:
                self.stop()
        assert self.leftovers() == []

    def _empty(self) -> None:
        if self.process is None:
            self.start()
        for path in self.get("/1.0/instances?all-projects=true"):
            url, question, query = path.partition("?")
            # Some are stopped already, and ephemeral ones go by themselves.
            with suppress(Failed):
                self.wait(self.put(f"{url}/state{question}{query}", {"action": "stop", "force": True}))
            with suppress(Failed):
                self.wait(self.request("DELETE", path))
        assert self.get("/1.0/instances?all-projects=true") == []
        for network in self.get("/1.0/networks?recursion=1"):
            if network["managed"]:
                self.request("DELETE", f"/1.0/networks/{network['name']}")

    def _check_descriptors(self) -> None:
        """What was opened for jobs is closed after them."""
        deadline = time.monotonic() + _SETTLE_S
        while (count := len(self._descriptors())) > self._fds_at_start and time.monotonic() < deadline:
            time.sleep(0.05)
        assert count <= self._fds_at_start, self._descriptors()

    def _descriptors(self) -> list[str]:
        directory = f"/proc/{self.pid}/fd"
        found = []
        for fd in os.listdir(directory):
            try:
                found.append(os.readlink(f"{directory}/{fd}"))
            except FileNotFoundError:
                continue
        return sorted(found)

    def leftovers(self) -> list[str]:
        """What of this daemon and its containers is on the host: should be nothing once it was emptied and stopped."""
        deadline = time.monotonic() + _SETTLE_S
        while (left := self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _leftovers(self) -> list[str]:
        state, root = str(self.state_dir), f"lxdpy-{hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:8]}"
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if state in line]
        left = [line for line in mounts if line.split()[4] != str(self.state_dir.parent)]
        left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{root}*")]
        left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"{root}*")]
        left += [str(path) for path in Path("/sys/class/net").glob(f"{BRIDGE}*")]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        left += [line for line in tables.splitlines() if f"lxdpy_{BRIDGE}" in line]
        left += [str(path) for path in Path("/sys/class/net").glob("veth*") if _is_ours(path)]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if state in process.joinpath("cmdline").read_text():
                    left.append(str(process))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return left

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "lxdpy"),
                    "daemon",
                    "--state-dir",
                    str(self.state_dir),
                    "--config",
                    str(self._config),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "DOCKER_CONFIG": "/nonexistent", "HOME": "/nonexistent", **self._environment},
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        # A killed daemon leaves its socket's name behind, and a child that it was just spawning even the socket for a
        # moment: only an answer shows that somebody listens.
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The daemon did not start: {self.log.read_text()[-3000:]}")
            time.sleep(0.02)
        self._fds_at_start = len(self._descriptors()) + _FDS_OF_WORKERS

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(str(self.socket)) != 0:
                return False
        try:
            return self.http.get("/1.0").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(_STOP_TIMEOUT_S)
        self.process = None
        return code

    # ---- requests

    def request(self, method: str, path: str, body: object = None) -> Json:
        """The whole envelope. Raises Failed."""
        response = self.http.request(method, path, json=body)
        envelope: Json = response.json()
        if envelope["type"] == "error":
            assert envelope["error_code"] == response.status_code
            raise Failed(response.status_code, envelope["error"])
        return envelope

    def get(self, path: str) -> Any:
        return self.request("GET", path)["metadata"]

    def put(self, path: str, body: object) -> Json:
        return self.request("PUT", path, body)

    def wait(self, envelope: Json) -> Json:
        """Wait for the operation that a request began; its object. Raises Failed."""
        operation: Json = self.get(f"{envelope['operation'].partition('?')[0]}/wait?timeout=100")
        if operation["status_code"] != 200:
            raise Failed((operation["metadata"] or {}).get("error_code", 0), operation["err"])
        return operation

    def pull(self, alias: str, server: str) -> Json:
        source = {"type": "image", "mode": "pull", "protocol": "oci", "server": server, "alias": alias}
        return self.wait(self.request("POST", "/1.0/images", {"source": source}))

    def create(self, name: str, source: Json, *, start: bool = True, **settings: object) -> None:
        self.wait(self.request("POST", "/1.0/instances", {"name": name, "source": source, **settings}))
        if start:
            self.act(name, "start")

    def act(self, name: str, action: str, **how: object) -> None:
        self.wait(self.put(f"/1.0/instances/{name}/state", {"action": action, **how}))

    def delete(self, name: str) -> None:
        self.wait(self.request("DELETE", f"/1.0/instances/{name}"))

    def run(self, name: str, *command: str, **options: object) -> tuple[int, str, str]:
        """Run a command with its output recorded: exit code, stdout, stderr."""
        body = {"command": list(command), "record-output": True, **options}
        result = self.wait(self.request("POST", f"/1.0/instances/{name}/exec", body))["metadata"]
        texts = []
        for stream in ("1", "2"):
            url = result["output"][stream]
            texts.append(self.http.get(url).text)
            self.request("DELETE", url)
        return result["return"], texts[0], texts[1]

    def console(self, name: str) -> str:
        return self.http.get(f"/1.0/instances/{name}/console").text

    def exit_of(self, name: str) -> Json:
        result: Json = self.get(f"/1.0/instances/{name}/wait?timeout=60")
        assert result["status"] == "Stopped"
        return result


@contextmanager
def place() -> Iterator[Path]:
    """A directory that container roots may pass through, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lxdpy-daemon-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _is_ours(link: Path) -> bool:
    """Whether a veth hangs on the tests' bridge."""
    master = link / "master"
    return master.is_symlink() and master.readlink().name.startswith(BRIDGE)
