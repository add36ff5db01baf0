"""A hundred containers: starts four at once, lists, and the memory of daemon and monitors.

Each daemon is new and alone while it is measured; memory is read two seconds after the last request.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench import processes
from bench.peers.base import Peer
from bench.peers.lxd_api import LxdApi
from bench.registry import Registry
from bench.results import Results

CONTAINERS, RUNNING, AT_ONCE = 100, 50, 4
LISTS = 15
SETTLE_S = 2.0
IDLE_S = 20.0
"""Long enough for helpers that wait for more work to end."""
MS = 1000.0


def run(results: Results, registry: Registry, peers: list[type[Peer]], scratch: Path, *, rounds: int) -> None:
    """All daemons in turn, `rounds` times."""
    for number in range(rounds):
        for kind in peers:
            with kind(scratch / f"fleet-{number}-{kind.name}", registry.host) as peer:
                _one_daemon(results, peer)


def _one_daemon(results: Results, peer: Peer) -> None:
    names = [f"c{number}" for number in range(CONTAINERS)]
    running = names[:RUNNING]
    time.sleep(SETTLE_S)
    results.add("fresh", peer.name, peer.daemon_pss_mib())
    peer.configure()
    time.sleep(IDLE_S)
    idle = peer.daemon_pss_mib()
    results.add("idle", peer.name, idle)
    with ThreadPoolExecutor(AT_ONCE) as pool, ExitStack() as stack:
        began = time.perf_counter()
        for name in names:
            peer.create(name)
            stack.callback(peer.delete, name)
        results.add("create-100", peer.name, time.perf_counter() - began)
        results.timed("start-50", peer.name, lambda: list(pool.map(peer.start, running)))
        stack.callback(lambda: list(pool.map(peer.kill, running)))
        _lists(results, peer)
        time.sleep(SETTLE_S)
        results.add("busy", peer.name, peer.daemon_pss_mib(running))
        results.add("growth", peer.name, peer.daemon_pss_mib(running) - idle)
        for name in running[:10]:
            results.add("monitor", peer.name, processes.private_mib(peer.monitor_pid(name)))


def _lists(results: Results, peer: Peer) -> None:
    for with_state in (False, True) if isinstance(peer, LxdApi) else (False,):
        for _ in range(LISTS if not with_state else 5):
            found = 0
            began = time.perf_counter()
            found = peer.listing(with_state=with_state)
            results.add("list-state" if with_state else "list", peer.name, (time.perf_counter() - began) * MS)
            if found != CONTAINERS:
                raise RuntimeError(f"{peer.name} lists {found} containers, there are {CONTAINERS}")
