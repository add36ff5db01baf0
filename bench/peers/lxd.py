"""Debian's LXD on a `dir` pool, with busybox imported as an image of its own format."""

import shutil

from bench.images import LXD_IMAGE
from bench.peers.base import PeerError
from bench.peers.lxd_api import LxdApi


class Lxd(LxdApi):
    """LXD has no OCI images: pulls are measured with skopeo and umoci instead (bench/pull.py)."""

    name = "LXD"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("lxd") else "lxd is not installed (bench/setup.sh)"

    def command(self) -> list[str]:
        return ["lxd", "--group=root"]

    def environment(self) -> dict[str, str]:
        return {"LXD_DIR": str(self.directory)}

    def configure(self) -> None:
        self.call("POST", "/1.0/storage-pools", {"name": "default", "driver": "dir", "config": {}})
        with LXD_IMAGE.open("rb") as image:
            started = self.http.post(
                "/1.0/images", content=image.read(), headers={"Content-Type": "application/octet-stream"}
            ).json()
        ended = self.call("GET", f"{started['operation']}/wait").json()["metadata"]
        if ended["status"] != "Success":
            raise PeerError(f"LXD: import of {LXD_IMAGE}: {ended['err']}")
        self._fingerprint = ended["metadata"]["fingerprint"]

    def source(self, image: str) -> dict[str, str]:
        return {"type": "image", "fingerprint": self._fingerprint}

    def pull(self, reference: str) -> None:
        raise NotImplementedError("LXD pulls no OCI images")

    def run_to_exit(self, name: str) -> None:
        raise NotImplementedError("LXD runs systems, not commands")
