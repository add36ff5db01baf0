from pathlib import Path

import pytest

from lxdpy.drivers.base import Limits
from lxdpy.drivers.liblxc.limits import apply, choose_cpus, items
from lxdpy.errors import ConflictError, InvalidRequestError, UnsupportedError
from lxdpy.linux.cgroup import CgroupMounts

V1 = CgroupMounts({name: f"/cg/{name}" for name in ("cpu", "cpuset", "memory", "pids")}, None)
V2 = CgroupMounts({}, "/cg")
EVERYTHING = Limits(cpu_count=2, cpu_percent=50, cpu_quota_ms=(25, 100), memory_bytes=1 << 20, swap=False, processes=7)


def test_items_of_v1() -> None:
    assert items(V1, EVERYTHING, (0, 1)) == [
        ("lxc.cgroup.cpuset.cpus", "0,1"),
        ("lxc.cgroup.pids.max", "7"),
        ("lxc.cgroup.cpu.shares", "512"),
        ("lxc.cgroup.cpu.cfs_period_us", "100000"),
        ("lxc.cgroup.cpu.cfs_quota_us", "25000"),
        ("lxc.cgroup.memory.limit_in_bytes", "1048576"),
        ("lxc.cgroup.memory.memsw.limit_in_bytes", "1048576"),
    ]


def test_items_of_v2() -> None:
    assert items(V2, EVERYTHING, (0, 1)) == [
        ("lxc.cgroup2.cpuset.cpus", "0,1"),
        ("lxc.cgroup2.pids.max", "7"),
        ("lxc.cgroup2.cpu.weight", "50"),
        ("lxc.cgroup2.cpu.max", "25000 100000"),
        ("lxc.cgroup2.memory.max", "1048576"),
        ("lxc.cgroup2.memory.swap.max", "0"),
    ]
    soft = Limits(memory_bytes=1 << 20, memory_soft=True)
    assert items(V2, soft, ()) == [("lxc.cgroup2.memory.high", "1048576")]


def test_nothing_is_limited_unless_asked_for() -> None:
    assert items(V1, Limits(), ()) == []


def test_a_controller_that_is_not_there() -> None:
    with pytest.raises(UnsupportedError, match="no cgroup controller pids"):
        items(CgroupMounts({"cpu": "/cg/cpu"}, None), Limits(processes=1), ())


def test_cpus_that_fewest_others_have() -> None:
    online = (0, 1, 2, 3)
    assert choose_cpus(Limits(cpu_count=2), [(0, 1), (0, 2)], online) == (1, 3)
    assert choose_cpus(Limits(cpu_count=4), [], online) == ()
    assert choose_cpus(Limits(cpus=(1, 3)), [(1, 3)], online) == (1, 3)
    assert choose_cpus(Limits(), [], online) == ()
    with pytest.raises(InvalidRequestError, match="CPU 4"):
        choose_cpus(Limits(cpus=(0, 4)), [], online)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A cgroup of v2, as plain files."""
    group = tmp_path / "web"
    group.mkdir()
    for name in ("cpuset.cpus", "pids.max", "cpu.weight", "cpu.max", "memory.high", "memory.max", "memory.swap.max"):
        (group / name).write_text("")
    return group


def test_what_is_not_limited_any_more_is_lifted(group: Path) -> None:
    mounts = CgroupMounts({}, str(group.parent))
    apply(mounts, "web", EVERYTHING, (0,), (0, 1))
    assert (group / "memory.max").read_text() == "1048576"
    assert (group / "cpuset.cpus").read_text() == "0"
    for path in group.iterdir():
        path.write_text("")
    apply(mounts, "web", Limits(), (), (0, 1))
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "cpuset.cpus": "0,1",
        "pids.max": "max",
        "cpu.weight": "100",
        "cpu.max": "max 100000",
        "memory.high": "max",
        "memory.max": "max",
        "memory.swap.max": "max",
    }


def test_a_kernel_without_the_file(group: Path) -> None:
    (group / "memory.swap.max").unlink()
    mounts = CgroupMounts({}, str(group.parent))
    apply(mounts, "web", Limits(memory_bytes=1 << 20), (), (0, 1))
    with pytest.raises(UnsupportedError, match=r"memory\.swap\.max"):
        apply(mounts, "web", Limits(swap=False), (), (0, 1))


def test_what_the_kernel_refuses(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Path, value: str) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("lxdpy.drivers.liblxc.limits._write", busy)
    with pytest.raises(ConflictError, match="more is in use"):
        apply(CgroupMounts({}, str(group.parent)), "web", Limits(memory_bytes=1 << 20), (), (0, 1))
