"""The parser on trees of sample files as kernels write them."""

from pathlib import Path

from lxdpy.drivers.probe.cgroups import CgroupUsage, read_cgroup
from lxdpy.linux.cgroup import CgroupMounts

CGROUP = "lxdpy-1a2b/web"

V2 = {
    "pids.current": "7\n",
    "cpu.stat": "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\ncore_sched.force_idle_usec 0\n",
    "memory.current": "10485760\n",
    "memory.peak": "20971520\n",
    "memory.max": "67108864\n",
    "memory.swap.current": "4096\n",
    "memory.swap.peak": "8192\n",
}
V1 = {
    "pids/pids.current": "3\n",
    "cpuacct/cpuacct.usage": "987654321\n",
    "memory/memory.usage_in_bytes": "5000000\n",
    "memory/memory.max_usage_in_bytes": "6000000\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.memsw.usage_in_bytes": "5500000\n",
    "memory/memory.memsw.max_usage_in_bytes": "7000000\n",
}
NOTHING = CgroupUsage(0, 0, 0, 0, None, 0, 0)


def v2(root: Path, files: dict[str, str]) -> CgroupMounts:
    directory = root / CGROUP
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return CgroupMounts({}, str(root))


def v1(root: Path, files: dict[str, str]) -> CgroupMounts:
    for name, text in files.items():
        controller, _, file = name.partition("/")
        (root / controller / CGROUP).mkdir(parents=True, exist_ok=True)
        (root / controller / CGROUP / file).write_text(text)
    return CgroupMounts({name: str(root / name) for name in ("pids", "cpuacct", "memory")}, None)


def test_v2(tmp_path: Path) -> None:
    usage = read_cgroup(v2(tmp_path, V2), CGROUP)
    assert usage == CgroupUsage(7, 1234567000, 10485760, 20971520, 67108864, 4096, 8192)


def test_v2_without_limit(tmp_path: Path) -> None:
    assert read_cgroup(v2(tmp_path, V2 | {"memory.max": "max\n"}), CGROUP).memory_limit_bytes is None


def test_v2_limit_of_zero_is_a_limit(tmp_path: Path) -> None:
    assert read_cgroup(v2(tmp_path, V2 | {"memory.max": "0\n"}), CGROUP).memory_limit_bytes == 0


def test_v2_of_an_old_kernel_without_swap(tmp_path: Path) -> None:
    files = {name: text for name, text in V2.items() if "peak" not in name and "swap" not in name}
    assert read_cgroup(v2(tmp_path, files), CGROUP) == CgroupUsage(7, 1234567000, 10485760, 0, 67108864, 0, 0)


def test_v1(tmp_path: Path) -> None:
    usage = read_cgroup(v1(tmp_path, V1), CGROUP)
    assert usage == CgroupUsage(3, 987654321, 5000000, 6000000, None, 500000, 1000000)


def test_v1_with_limit(tmp_path: Path) -> None:
    files = V1 | {"memory/memory.limit_in_bytes": "67108864\n"}
    assert read_cgroup(v1(tmp_path, files), CGROUP).memory_limit_bytes == 67108864


def test_v1_without_swap_accounting(tmp_path: Path) -> None:
    files = {name: text for name, text in V1.items() if "memsw" not in name}
    usage = read_cgroup(v1(tmp_path, files), CGROUP)
    assert (usage.memory_bytes, usage.swap_bytes, usage.swap_peak_bytes) == (5000000, 0, 0)


def test_hybrid_takes_each_controller_where_it_is(tmp_path: Path) -> None:
    old, new = v1(tmp_path / "v1", V1), v2(tmp_path / "v2", V2)
    mounts = CgroupMounts({"memory": old.v1["memory"]}, new.v2)
    assert read_cgroup(mounts, CGROUP) == CgroupUsage(7, 1234567000, 5000000, 6000000, None, 500000, 1000000)


def test_gone(tmp_path: Path) -> None:
    assert read_cgroup(v1(tmp_path, V1), "lxdpy-1a2b/other") == NOTHING
    assert read_cgroup(CgroupMounts({}, str(tmp_path)), CGROUP) == NOTHING
    assert read_cgroup(CgroupMounts({}, None), CGROUP) == NOTHING
