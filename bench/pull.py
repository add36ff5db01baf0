"""Cold pull of one image from a loopback registry, and the requests of a second pull.

Each round gives each contender a daemon and directories that are new, and nothing is deleted before the last round is
over: ext4 skips recently deleted inodes one by one, which would slow the next contender down and not the deleter.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.images import layer_blobs
from bench.peers.base import Peer
from bench.peers.ours import Ours
from bench.registry import Registry
from bench.results import Results

SKOPEO_UMOCI = "skopeo + umoci"
FLOOR = "igzip, tar"


def run(results: Results, registry: Registry, peers: list[type[Peer]], scratch: Path, *, rounds: int) -> None:
    """Pull `app:1` `rounds` times with everyone in turn."""
    for number in range(rounds):
        for kind in peers:
            with kind(scratch / f"pull-{number}-{kind.name}", registry.host) as peer:
                _pull(results, peer)
                if isinstance(peer, Ours):
                    _pull_again(results, peer, registry)
        directory = scratch / f"pull-{number}-tools"
        directory.mkdir()
        os.sync()
        results.timed("pull", SKOPEO_UMOCI, lambda where=directory: skopeo_umoci(registry.host, where))  # type: ignore[misc]
        os.sync()
        results.timed("pull", FLOOR, lambda where=directory: igzip_tar("app:1", where))  # type: ignore[misc]


def _pull(results: Results, peer: Peer) -> None:
    os.sync()
    results.timed("pull", peer.name, lambda: peer.pull("app:1"))


def _pull_again(results: Results, peer: Peer, registry: Registry) -> None:
    """Count what a pull of the tag that is already here asks the registry for."""
    before = len(registry.requests())
    peer.pull("app:1")
    asked = registry.requests(since=before)
    results.add("pull-again", f"{peer.name} manifests", sum("/manifests/" in request.path for request in asked))
    results.add("pull-again", f"{peer.name} blobs", sum("/blobs/" in request.path for request in asked))
    results.add("pull-again", f"{peer.name} all", len(asked))


def skopeo_umoci(host: str, directory: Path) -> None:
    """What an OCI puller made of existing tools does."""
    layout = f"{directory}/layout"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{host}/app:1", f"oci:{layout}:1"], check=True
    )
    subprocess.run(
        ["umoci", "--log=error", "unpack", "--image", f"{layout}:1", f"{directory}/bundle"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def igzip_tar(tag: str, directory: Path) -> None:
    """The floor: the layers inflated and unpacked two at a time, each into its own directory, nothing verified."""

    def unpack(number: int, blob: Path) -> None:
        target = directory / f"layer-{number}"
        target.mkdir()
        with subprocess.Popen(["igzip", "-dc", str(blob)], stdout=subprocess.PIPE) as igzip:
            subprocess.run(["tar", "-x", "-C", str(target)], stdin=igzip.stdout, check=True)
        if igzip.returncode:
            raise subprocess.CalledProcessError(igzip.returncode, "igzip")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(unpack, *zip(*enumerate(layer_blobs(tag)), strict=True)))
