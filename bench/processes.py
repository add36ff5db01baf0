"""Memory of processes and process trees, from /proc/PID/smaps_rollup."""

from collections.abc import Collection
from pathlib import Path

MIB = 1024.0  # smaps counts in KiB


def children() -> dict[int, list[int]]:
    """Child processes by parent."""
    tree: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        tree.setdefault(int(fields[1]), []).append(int(status.parent.name))
    return tree


def parent(pid: int) -> int:
    """The process that `pid` is a child of."""
    return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def tree(root: int, without: Collection[int] = ()) -> list[int]:
    """`root` and all below it, leaving out each process of `without` with all below that."""
    by_parent = children()
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid not in without:
            found.append(pid)
            waiting += by_parent.get(pid, [])
    return found


def pss_mib(pids: Collection[int]) -> float:
    """Proportional set size of all of `pids` together."""
    return sum(_rollup(pid).get("Pss", 0) for pid in pids) / MIB


def private_mib(pid: int) -> float:
    """Memory that would be free again without `pid`."""
    rollup = _rollup(pid)
    return (rollup.get("Private_Clean", 0) + rollup.get("Private_Dirty", 0)) / MIB


def _rollup(pid: int) -> dict[str, int]:
    """KiB by field; empty when the process has just gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
