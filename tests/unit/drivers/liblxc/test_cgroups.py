"""Freezer files, and removal of what is left, in directories that look like hierarchies."""

from pathlib import Path

import pytest

from lxdpy.drivers.liblxc import cgroups
from lxdpy.errors import WorkerError
from lxdpy.linux.cgroup import CgroupMounts

CGROUP = "lxdpy-1/web"


def test_remove_takes_nested_cgroups_and_the_monitor(tmp_path: Path) -> None:
    roots = (str(tmp_path / "cpu"), str(tmp_path / "systemd"))
    mounts = CgroupMounts({"cpu": roots[0]}, None, roots)
    for root in roots:
        for name in ("web/a/b", "web/c", "web.monitor", ".pivot/lxc.pivot", "other"):
            Path(root, "lxdpy-1", name).mkdir(parents=True)
    assert cgroups.exists(mounts, CGROUP)
    cgroups.remove(mounts, CGROUP, pivot=False)
    assert not cgroups.exists(mounts, CGROUP)
    assert sorted(path.name for path in (tmp_path / "cpu/lxdpy-1").iterdir()) == [".pivot", "other"]
    cgroups.remove(mounts, CGROUP, pivot=True)
    assert [path.name for path in (tmp_path / "systemd/lxdpy-1").iterdir()] == ["other"]


def test_freezer_v1(tmp_path: Path) -> None:
    mounts = CgroupMounts({"freezer": str(tmp_path)}, "/nowhere")
    state = tmp_path / CGROUP / "freezer.state"
    state.parent.mkdir(parents=True)
    assert not cgroups.is_frozen(mounts, CGROUP)
    state.write_text("FROZEN\n")
    assert cgroups.is_frozen(mounts, CGROUP)
    state.write_text("FREEZING\n")
    assert not cgroups.is_frozen(mounts, CGROUP)


def test_freezer_v2(tmp_path: Path) -> None:
    mounts = CgroupMounts({}, str(tmp_path))
    directory = tmp_path / CGROUP
    directory.mkdir(parents=True)
    (directory / "cgroup.freeze").write_text("0\n")
    (directory / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    cgroups.set_frozen(mounts, CGROUP, frozen=True)
    assert (directory / "cgroup.freeze").read_text() == "1\n"
    (directory / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    cgroups.set_frozen(mounts, CGROUP, frozen=False)
    assert (directory / "cgroup.freeze").read_text() == "0\n"


def test_freezing_what_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="No such file"):
        cgroups.set_frozen(CgroupMounts({}, str(tmp_path)), CGROUP, frozen=True)
