"""Disks and their partitions."""

from pathlib import Path

from lxdpy.drivers.hardware import Disk, Disks, Partition
from lxdpy.drivers.resources.files import entries, link_name, number, text

_SECTOR_BYTES = 512
_NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "drbd", "rbd", "zd")


def read_disks(root: Path) -> Disks:
    """Every disk; what is made of disks or of memory is none."""
    mounted = {line.split()[2] for line in text(root / "proc/self/mountinfo").splitlines()}
    names = _names_by_id(root)
    found = []
    for path in entries(root / "sys/block"):
        if path.name.startswith(_NO_DISKS):
            continue
        device = text(path / "dev")
        found.append(
            Disk(
                id=path.name,
                device=device,
                model=text(path / "device/model"),
                type=_kind(path),
                read_only=number(path / "ro") == 1,
                mounted=device in mounted,
                size=number(path / "size") * _SECTOR_BYTES,
                removable=number(path / "removable") == 1,
                numa_node=max(number(path / "device/numa_node"), 0),
                device_path="",
                block_size=number(path / "queue/physical_block_size"),
                firmware_version=text(path / "device/firmware_rev"),
                rpm=number(path / "queue/rotational"),
                serial=text(path / "device/serial") or text(path / "serial"),
                device_id=names.get(path.name, ""),
                partitions=tuple(
                    _partition(entry, mounted) for entry in entries(path) if (entry / "partition").exists()
                ),
            )
        )
    return Disks(tuple(found), len(found))


def _partition(path: Path, mounted: set[str]) -> Partition:
    device = text(path / "dev")
    return Partition(
        id=path.name,
        device=device,
        read_only=number(path / "ro") == 1,
        mounted=device in mounted,
        size=number(path / "size") * _SECTOR_BYTES,
        partition=number(path / "partition"),
    )


def _kind(path: Path) -> str:
    if path.name.startswith("nvme"):
        return "nvme"
    return link_name(path / "device/subsystem")


def _names_by_id(root: Path) -> dict[str, str]:
    """The name in /dev/disk/by-id of each disk that has one."""
    return {link_name(entry): entry.name for entry in entries(root / "dev/disk/by-id")}
