"""Latency of one container's life over the API: run to exit, exec, stop by force; all daemons up, turn by turn."""

from contextlib import ExitStack
from pathlib import Path

from bench.peers.base import Peer
from bench.peers.lxd import Lxd
from bench.registry import Registry
from bench.results import Results

MS = 1000.0


def run(results: Results, registry: Registry, peers: list[type[Peer]], scratch: Path, *, rounds: int) -> None:
    """One container per daemon stays up for exec; one more is made and stopped, and one runs `true`, in each round."""
    with ExitStack() as stack:
        running = [stack.enter_context(kind(scratch / f"life-{kind.name}", registry.host)) for kind in peers]
        for peer in running:
            peer.configure()
            peer.create("stays")
            peer.start("stays")
            stack.callback(_remove, peer, "stays")
        for number in range(rounds + 1):
            # The first round warms caches up and is not kept.
            kept = results if number else Results()
            for peer in running:
                _one_round(kept, peer, f"c{number}")


def _one_round(results: Results, peer: Peer, name: str) -> None:
    results.timed("exec", peer.name, lambda: peer.execute("stays", ["true"]), scale=MS)
    results.timed("create", peer.name, lambda: peer.create(name), scale=MS)
    results.timed("start", peer.name, lambda: peer.start(name), scale=MS)
    results.timed("stop", peer.name, lambda: peer.kill(name), scale=MS)
    results.timed("delete", peer.name, lambda: peer.delete(name), scale=MS)
    if not isinstance(peer, Lxd):
        results.timed("run", peer.name, lambda: peer.run_to_exit(f"{name}-true"), scale=MS)


def _remove(peer: Peer, name: str) -> None:
    peer.kill(name)
    peer.delete(name)
