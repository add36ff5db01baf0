from pathlib import Path

from lxdpy.linux.cgroup import CgroupMounts, cgroup_mounts

UNIFIED = """\
23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
29 23 0:26 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/my\\040memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /mnt/again rw,relatime - cgroup2 cgroup2 rw
"""


def mounts(tmp_path: Path, table: str) -> CgroupMounts:
    file = tmp_path / "mountinfo"
    file.write_text(table)
    return cgroup_mounts(file)


def test_unified(tmp_path: Path) -> None:
    assert mounts(tmp_path, UNIFIED) == CgroupMounts({}, "/sys/fs/cgroup")


def test_hybrid(tmp_path: Path) -> None:
    assert mounts(tmp_path, HYBRID) == CgroupMounts(
        {
            "cpu": "/sys/fs/cgroup/cpu,cpuacct",
            "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
            "memory": "/sys/fs/cgroup/my memory",
            "pids": "/sys/fs/cgroup/pids",
        },
        "/sys/fs/cgroup/unified",
    )


def test_none(tmp_path: Path) -> None:
    assert mounts(tmp_path, "") == CgroupMounts({}, None)
