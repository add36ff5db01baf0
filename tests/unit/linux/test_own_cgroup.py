"""Which cgroup.procs is ours, by the mount table."""

import os
from pathlib import Path

import pytest

from lxdpy.linux.own_cgroup import expect_moves, open_procs

MOUNTS = (
    "20 1 0:19 / /proc rw - proc proc rw\n30 1 0:26 {root} {place}/mounted rw,relatime - {type} {type} rw{options}\n"
)


@pytest.mark.parametrize(
    ("line", "kind", "options"),
    [
        ("0::/ours", "cgroup2", ""),
        ("5:cpu,cpuacct:/ours", "cgroup", ",cpu,cpuacct"),
        ("2:name=x:/ours", "cgroup", ",name=x"),
    ],
)
def test_every_kind_of_hierarchy(tmp_path: Path, line: str, kind: str, options: str) -> None:
    (tmp_path / "cgroup").write_text(f"9:memory:/elsewhere\n{line}\n")
    (tmp_path / "mountinfo").write_text(MOUNTS.format(root="/", place=tmp_path, type=kind, options=options))
    procs = tmp_path / "mounted" / "ours/cgroup.procs"
    procs.parent.mkdir(parents=True)
    procs.touch()
    fd = open_procs(str(tmp_path / "cgroup"), str(tmp_path / "mountinfo"))
    expect_moves(fd)
    os.close(fd)
    assert procs.read_text() == "0"


def test_none_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/ours\n")
    (tmp_path / "mountinfo").write_text("20 1 0:19 / /proc rw - proc proc rw\n")
    with pytest.raises(FileNotFoundError, match="No cgroup hierarchy is mounted"):
        open_procs(str(tmp_path / "cgroup"), str(tmp_path / "mountinfo"))
