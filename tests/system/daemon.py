"""A real daemon, as `lxdpy daemon` runs it, on a state directory of the test's own, and a plain HTTP client to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

BRIDGE = "lxdpyt1"
GATEWAY = "10.248.0.1"

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 60.0

Json = dict[str, Any]


class Failed(Exception):
    """The daemon answered with an error, or an operation failed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Daemon:
    """A daemon process. Entering starts it; leaving deletes every instance, stops it and removes its bridge."""

    def __init__(self, state_dir: Path, *, config: str = "") -> None:
        self.state_dir = state_dir
        self.log = state_dir.parent / f"{state_dir.name}.log"
        self._config = state_dir.parent / f"{state_dir.name}.toml"
        self._config.write_text(f'[network]\nbridge = "{BRIDGE}"\nipv4_address = "{GATEWAY}/16"\n{config}')
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://lxdpy", timeout=120
        )

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
        if self.process is None:
            self.start()
        for url in self.get("/1.0/instances"):
            name = url.rpartition("/")[2]
            if self.get(url)["status"] != "Stopped":
                self.wait(self.put(f"{url}/state", {"action": "stop", "force": True}))
            if name in [entry.rpartition("/")[2] for entry in self.get("/1.0/instances")]:
                self.wait(self.request("DELETE", url))
        self.request("DELETE", f"/1.0/networks/{BRIDGE}")
        self.stop()
        self.http.close()

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
                env={**os.environ, "DOCKER_CONFIG": "/nonexistent", "HOME": "/nonexistent"},
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                assert self.http.get("/1.0").status_code == 200
                return
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"The daemon did not start: {self.log.read_text()[-3000:]}") from None
                time.sleep(0.02)

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
        operation: Json = self.get(f"{envelope['operation']}/wait?timeout=100")
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
