"""Processors and memory."""

import os
import re
from collections import defaultdict
from pathlib import Path

from lxdpy.drivers.hardware import Cache, Core, Cpu, Memory, MemoryNode, Socket, Thread
from lxdpy.drivers.resources.files import entries, number, text
from lxdpy.linux import cpu_list

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def read_cpu(root: Path) -> Cpu:
    """Every processor, from /sys/devices/system/cpu and /proc/cpuinfo."""
    base = root / "sys/devices/system/cpu"
    cpus = [path for path in entries(base) if re.fullmatch(r"cpu\d+", path.name)]
    isolated = set(cpu_list.parse(text(base / "isolated")))
    nodes = _nodes_of_cpus(root)
    names = _names(root)
    places: dict[int, dict[tuple[int, int], list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(cpus, key=lambda path: int(path.name[3:])):
        topology = path / "topology"
        # A thread that is offline has no topology: it is shown as a core of the first socket.
        package = max(number(topology / "physical_package_id"), 0)
        place = (number(topology / "die_id"), number(topology / "core_id", int(path.name[3:])))
        places[package][place].append(path)
    sockets = []
    for package, cores in sorted(places.items()):
        made = []
        for (die, core), threads in sorted(cores.items()):
            made.append(
                Core(
                    core,
                    max(die, 0),
                    tuple(
                        Thread(
                            id=(cpu := int(path.name[3:])),
                            numa_node=nodes.get(cpu, 0),
                            thread=place,
                            online=number(path / "online", 1) == 1,
                            isolated=cpu in isolated,
                        )
                        for place, path in enumerate(threads)
                    ),
                    number(threads[0] / "cpufreq/scaling_cur_freq") // 1000,
                )
            )
        first = next(iter(cores.values()))[0]
        vendor, name = names.get(int(first.name[3:]), ("", ""))
        sockets.append(
            Socket(
                name=name,
                vendor=vendor,
                socket=package,
                cache=_caches(first),
                cores=tuple(made),
                frequency=sum(core.frequency for core in made) // len(made),
                frequency_minimum=number(first / "cpufreq/cpuinfo_min_freq") // 1000,
                frequency_turbo=number(first / "cpufreq/cpuinfo_max_freq") // 1000,
            )
        )
    return Cpu(os.uname().machine, tuple(sockets), len(cpus))


def _nodes_of_cpus(root: Path) -> dict[int, int]:
    nodes = {}
    for path in entries(root / "sys/devices/system/node"):
        if match := re.fullmatch(r"node(\d+)", path.name):
            nodes.update(dict.fromkeys(cpu_list.parse(text(path / "cpulist")), int(match[1])))
    return nodes


def _names(root: Path) -> dict[int, tuple[str, str]]:
    """Vendor and model of each thread, as /proc/cpuinfo gives them."""
    names = {}
    for block in text(root / "proc/cpuinfo").split("\n\n"):
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        if fields.get("processor", "").isdigit():
            names[int(fields["processor"])] = (fields.get("vendor_id", ""), fields.get("model name", ""))
    return names


def _caches(cpu: Path) -> tuple[Cache, ...]:
    caches = [path for path in entries(cpu / "cache") if path.name.startswith("index")]
    return tuple(
        Cache(number(path / "level"), text(path / "type"), _size(text(path / "size")))
        for path in caches
        if text(path / "level")
    )


def _size(written: str) -> int:
    """Bytes of `32K`."""
    match = re.fullmatch(r"(\d+)([KMG]?)", written)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def read_memory(root: Path) -> Memory:
    """All memory, and each NUMA node's."""
    whole = _meminfo(text(root / "proc/meminfo"))
    page = whole.get("Hugepagesize", 0)
    nodes = []
    for path in entries(root / "sys/devices/system/node"):
        if match := re.fullmatch(r"node(\d+)", path.name):
            found = _meminfo(re.sub(r"(?m)^Node \d+ ", "", text(path / "meminfo")))
            total = found.get("MemTotal", 0)
            given_back = found.get("FilePages", 0) + found.get("SReclaimable", 0)
            huge, free = found.get("HugePages_Total", 0), found.get("HugePages_Free", 0)
            used = max(0, total - found.get("MemFree", 0) - given_back)
            nodes.append(MemoryNode(int(match[1]), (huge - free) * page, huge * page, used, total))
    huge, free = whole.get("HugePages_Total", 0), whole.get("HugePages_Free", 0)
    return Memory(
        nodes=tuple(nodes),
        hugepages_total=huge * page,
        hugepages_used=(huge - free) * page,
        hugepages_size=page,
        used=whole.get("MemTotal", 0) - whole.get("MemAvailable", 0),
        total=whole.get("MemTotal", 0),
    )


def _meminfo(written: str) -> dict[str, int]:
    """Bytes, and numbers of pages where the kernel gives no unit."""
    found = {}
    for line in written.splitlines():
        if match := re.match(r"([^:]+):\s+(\d+)( kB)?", line):
            found[match[1]] = int(match[2]) * (1024 if match[3] else 1)
    return found
