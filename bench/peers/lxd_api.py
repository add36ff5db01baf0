"""LXD's API: LXD itself and lxdpy, which differ in how images get in."""

from collections.abc import Sequence
from typing import Any

from bench.peers.base import Peer, PeerError

FINISHED_WELL = 200
STOP = {"action": "stop", "force": True, "timeout": -1}
START = {"action": "start", "timeout": -1}


class LxdApi(Peer):
    """The calls that are the same for both."""

    ping = "/1.0"

    def source(self, image: str) -> dict[str, str]:
        """The `source` of an instance made of `image`."""
        raise NotImplementedError

    def create(self, name: str, *, image: str = "busybox:1") -> None:
        self.operation(
            "POST",
            "/1.0/instances",
            {
                "name": name,
                "type": "container",
                "profiles": [],
                "devices": {"root": {"type": "disk", "path": "/", "pool": "default"}},
                "source": self.source(image),
            },
        )

    def start(self, name: str) -> None:
        self.operation("PUT", f"/1.0/instances/{name}/state", START)

    def execute(self, name: str, command: Sequence[str]) -> None:
        body = {"command": list(command), "wait-for-websocket": False, "interactive": False, "record-output": False}
        status = self.operation("POST", f"/1.0/instances/{name}/exec", body)["metadata"]["return"]
        if status != 0:
            raise PeerError(f"{self.name}: exec in {name} ended with {status}")

    def kill(self, name: str) -> None:
        self.operation("PUT", f"/1.0/instances/{name}/state", STOP)

    def delete(self, name: str) -> None:
        self.operation("DELETE", f"/1.0/instances/{name}")

    def snapshot(self, name: str, snapshot: str) -> None:
        """Take a snapshot."""
        self.operation("POST", f"/1.0/instances/{name}/snapshots", {"name": snapshot, "stateful": False})

    def restore(self, name: str, snapshot: str) -> None:
        """Make a container what it was."""
        self.operation("PUT", f"/1.0/instances/{name}", {"restore": snapshot})

    def copy(self, source: str, name: str) -> None:
        """Make a container of another one, or of `NAME/SNAPSHOT`, without snapshots."""
        wanted = {"type": "copy", "source": source, "instance_only": True, "container_only": True}
        self.operation("POST", "/1.0/instances", {"name": name, "type": "container", "source": wanted})

    def listing(self, *, with_state: bool) -> int:
        return len(self.call("GET", f"/1.0/instances?recursion={2 if with_state else 1}").json()["metadata"])

    def init_pid(self, name: str) -> int:
        return int(self.call("GET", f"/1.0/instances/{name}/state").json()["metadata"]["pid"])

    def operation(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask for a background operation and wait for its end, as `lxc` does."""
        started = self.call(method, path, body).json()
        ended: dict[str, Any] = self.call("GET", f"{started['operation']}/wait").json()["metadata"]
        if ended["status_code"] != FINISHED_WELL:
            raise PeerError(f"{self.name}: {method} {path}: {ended['err']}")
        return ended
