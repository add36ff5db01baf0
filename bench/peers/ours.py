"""lxdpy from this checkout's virtual environment."""

import json
import time
from pathlib import Path

from websockets.sync.client import ClientConnection, unix_connect

from bench.peers.base import PeerError
from bench.peers.lxd_api import LxdApi

LXDPY = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "lxdpy"
CONFIG = """\
[registry."{registry}"]
plain_http = true

[network]
bridge = "lxdpybench0"
ipv4_address = "10.213.0.1/24"
"""


class Ours(LxdApi):
    """The daemon with its defaults, apart from the registry's plain http and a bridge of its own."""

    name = "lxdpy"

    def __init__(self, directory: Path, registry: str) -> None:
        super().__init__(directory, registry)
        self._events: ClientConnection | None = None
        self._fingerprints: dict[str, str] = {}

    @classmethod
    def missing(cls) -> str | None:
        return None if LXDPY.exists() else f"{LXDPY} does not exist"

    def command(self) -> list[str]:
        config = self.directory / "lxdpy.toml"
        config.write_text(CONFIG.format(registry=self.registry))
        return [str(LXDPY), "daemon", "--state-dir", str(self.directory), "--config", str(config)]

    def configure(self) -> None:
        for tag in ("busybox:1", "busybox:true"):
            self.pull(tag)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        super().close()

    def pull(self, reference: str) -> None:
        source = {"type": "image", "protocol": "oci", "server": f"https://{self.registry}", "alias": reference}
        ended = self.operation("POST", "/1.0/images", {"source": source})
        self._fingerprints[reference] = ended["metadata"]["fingerprint"]

    def source(self, image: str) -> dict[str, str]:
        return {"type": "image", "fingerprint": self._fingerprints[image]}

    def run_to_exit(self, name: str) -> None:
        if self._events is None:
            self._events = unix_connect(str(self.socket), uri="ws://localhost/1.0/events?type=lifecycle")
        self.create(name, image="busybox:true")
        self.start(name)
        self._wait_for_exit(self._events, name)
        self.delete(name)

    def _wait_for_exit(self, events: ClientConnection, name: str) -> None:
        """Read the event stream until it tells that the container has ended by itself."""
        deadline = time.monotonic() + 30
        while True:
            try:
                event = json.loads(events.recv(timeout=max(0.0, deadline - time.monotonic())))["metadata"]
            except TimeoutError as exc:
                raise PeerError(f"lxdpy: no event told within 30 s that {name} has ended") from exc
            if event["action"] in ("instance-shutdown", "instance-stopped") and event["source"].endswith(f"/{name}"):
                return
