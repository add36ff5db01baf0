"""Docker's API: Debian's dockerd, and podman's service that speaks the same."""

import shutil
from collections.abc import Sequence

from bench.peers.base import Peer, PeerError


class Docker(Peer):
    """dockerd without bridge and firewall rules: no bench needs them, and the host's stay as they are."""

    name = "docker"
    ping = "/_ping"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("/usr/sbin/dockerd") else "Debian's docker.io is not installed (bench/setup.sh)"

    def command(self) -> list[str]:
        return [
            "/usr/sbin/dockerd",
            f"--host=unix://{self.socket}",
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/exec",
            f"--pidfile={self.directory}/pid",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            f"--insecure-registry={self.registry}",
        ]

    def configure(self) -> None:
        for tag in ("busybox:1", "busybox:true"):
            self.pull(tag)

    def pull(self, reference: str) -> None:
        name, tag = reference.split(":")
        path = f"/images/create?fromImage={self.registry}/{name}&tag={tag}"
        response = self.call("POST", path)
        if '"error"' in response.text:
            raise PeerError(f"{self.name}: pull of {reference}: {response.text[-500:]}")

    def create(self, name: str, *, image: str = "busybox:1") -> None:
        host = {"NetworkMode": "none"}
        self.call("POST", f"/containers/create?name={name}", {"Image": f"{self.registry}/{image}", "HostConfig": host})

    def start(self, name: str) -> None:
        self.call("POST", f"/containers/{name}/start")

    def run_to_exit(self, name: str) -> None:
        self.create(name, image="busybox:true")
        self.start(name)
        self.call("POST", f"/containers/{name}/wait")
        self.delete(name)

    def execute(self, name: str, command: Sequence[str]) -> None:
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
        exec_id = self.call("POST", f"/containers/{name}/exec", body).json()["Id"]
        self.call("POST", f"/exec/{exec_id}/start", {"Detach": False, "Tty": False})
        status = self.call("GET", f"/exec/{exec_id}/json").json()["ExitCode"]
        if status != 0:
            raise PeerError(f"{self.name}: exec in {name} ended with {status}")

    def kill(self, name: str) -> None:
        self.call("POST", f"/containers/{name}/kill")
        self.call("POST", f"/containers/{name}/wait")

    def delete(self, name: str) -> None:
        self.call("DELETE", f"/containers/{name}")

    def listing(self, *, with_state: bool) -> int:
        return len(self.call("GET", "/containers/json?all=1").json())

    def init_pid(self, name: str) -> int:
        return int(self.call("GET", f"/containers/{name}/json").json()["State"]["Pid"])


class Podman(Docker):
    """podman's service; runc, because crun refuses hybrid cgroups."""

    name = "podman"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("podman") else "podman is not installed (bench/setup.sh)"

    def command(self) -> list[str]:
        return [
            "podman",
            f"--root={self.directory}/data",
            f"--runroot={self.directory}/run",
            f"--tmpdir={self.directory}/tmp",
            "--storage-driver=overlay",
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "system",
            "service",
            "--time=0",
            f"unix://{self.socket}",
        ]

    def environment(self) -> dict[str, str]:
        registries = self.directory / "registries.conf"
        registries.write_text(f'[[registry]]\nlocation = "{self.registry}"\ninsecure = true\n')
        return {"CONTAINERS_REGISTRIES_CONF": str(registries)}
