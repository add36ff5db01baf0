"""Snapshots and copies of a container that has written 2,000 files and 20 MB: lxdpy and LXD's `dir` driver by turns."""

from contextlib import ExitStack
from pathlib import Path

from bench.peers.base import Peer
from bench.peers.lxd_api import LxdApi
from bench.registry import Registry
from bench.results import Results

MS = 1000.0
FILL = (
    "mkdir /data && cd /data && for n in $(seq 2000); do echo $n >$n; done && "
    "for n in $(seq 10); do cp /bin/busybox large$n; done && rm /etc/group"
)


def run(results: Results, registry: Registry, peers: list[type[Peer]], scratch: Path, *, rounds: int) -> None:
    """One new container a round; what it is made of and what it writes is not timed."""
    with ExitStack() as stack:
        running: list[LxdApi] = []
        for kind in peers:
            peer = stack.enter_context(kind(scratch / f"snapshots-{kind.name}", registry.host))
            assert isinstance(peer, LxdApi)
            running.append(peer)
            peer.configure()
        for number in range(rounds + 1):
            # The first round warms caches up and is not kept.
            kept = results if number else Results()
            for peer in running:
                _one_round(kept, peer, f"c{number}")


def _one_round(results: Results, peer: LxdApi, name: str) -> None:
    peer.create(name)
    peer.start(name)
    peer.execute(name, ["sh", "-c", FILL])
    results.timed("snap-running", peer.name, lambda: peer.snapshot(name, "running"), scale=MS)
    peer.kill(name)
    results.timed("copy-stopped", peer.name, lambda: peer.copy(name, f"{name}-copy"), scale=MS)
    results.timed("snap-stopped", peer.name, lambda: peer.snapshot(name, "stopped"), scale=MS)
    results.timed("copy-snapshot", peer.name, lambda: peer.copy(f"{name}/stopped", f"{name}-early"), scale=MS)
    results.timed("restore", peer.name, lambda: peer.restore(name, "running"), scale=MS)
    for made in (name, f"{name}-copy", f"{name}-early"):
        peer.delete(made)
