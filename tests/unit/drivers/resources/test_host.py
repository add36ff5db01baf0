from collections.abc import Mapping
from pathlib import Path

import pytest

from lxdpy.drivers.hardware import Resources
from lxdpy.drivers.resources import HostResources

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Fast One
flags\t\t: fpu hypervisor

processor\t: 3
vendor_id\t: AuthenticAMD
model name\t: Faster One
flags\t\t: fpu
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Two sockets of different make, one of them with two threads in its core; a disk, a card, a USB stick."""
    files: Mapping[str, str] = {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 400 kB\nHugePages_Total: 4\nHugePages_Free: 1\n"
        "Hugepagesize: 2048 kB\n",
        "proc/self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        "sys/devices/system/cpu/isolated": "3\n",
        "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0",
        "sys/devices/system/cpu/cpu0/topology/core_id": "0",
        "sys/devices/system/cpu/cpu0/cache/index0/level": "1",
        "sys/devices/system/cpu/cpu0/cache/index0/type": "Data",
        "sys/devices/system/cpu/cpu0/cache/index0/size": "32K",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2600000",
        "sys/devices/system/cpu/cpu1/topology/physical_package_id": "0",
        "sys/devices/system/cpu/cpu1/topology/core_id": "0",
        "sys/devices/system/cpu/cpu3/topology/physical_package_id": "1",
        "sys/devices/system/cpu/cpu3/topology/core_id": "0",
        "sys/devices/system/cpu/cpu3/online": "0",
        "sys/devices/system/node/node0/cpulist": "0-1",
        "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 600 kB\nNode 0 MemFree: 100 kB\n"
        "Node 0 FilePages: 50 kB\nNode 0 HugePages_Total: 2\nNode 0 HugePages_Free: 2\n",
        "sys/devices/system/node/node1/cpulist": "3",
        "sys/devices/system/node/node1/meminfo": "Node 1 MemTotal: 400 kB\nNode 1 MemFree: 400 kB\n",
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x8086",
        "sys/bus/pci/devices/0000:01:00.0/device": "0x100e",
        "sys/bus/pci/devices/0000:01:00.0/numa_node": "-1",
        "sys/bus/usb/devices/usb1/idVendor": "1d6b",
        "sys/bus/usb/devices/1-1/idVendor": "0781",
        "sys/bus/usb/devices/1-1/busnum": "1",
        "sys/bus/usb/devices/1-1/devnum": "5",
        "sys/bus/usb/devices/1-1/speed": "480",
        "sys/bus/usb/devices/1-1:1.0/bInterfaceClass": "08",
        "sys/class/net/eth0/address": "00:16:3e:00:00:01",
        "sys/class/net/eth0/type": "1",
        "sys/class/net/eth0/carrier": "1",
        "sys/class/net/eth0/speed": "1000",
        "sys/class/net/lo/type": "772",
        "sys/block/sda/dev": "8:0",
        "sys/block/sda/size": "2048",
        "sys/block/sda/queue/rotational": "1",
        "sys/block/sda/sda1/partition": "1",
        "sys/block/sda/sda1/dev": "8:1",
        "sys/block/sda/sda1/size": "1024",
        "sys/block/loop0/dev": "7:0",
        "sys/class/dmi/id/sys_vendor": "QEMU\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "sys/class/net/eth0/device").symlink_to(tmp_path / "sys/bus/pci/devices/0000:01:00.0")
    return tmp_path


def read(host: Path) -> Resources:
    return HostResources(host).read()


def test_processors(host: Path) -> None:
    cpu = read(host).cpu
    assert cpu.total == 3
    first, second = cpu.sockets
    assert (first.name, second.vendor, first.frequency) == ("Fast One", "AuthenticAMD", 2600)
    assert [(cache.level, cache.size) for cache in first.cache] == [(1, 32768)]
    (core,) = first.cores
    assert [(thread.id, thread.thread, thread.online) for thread in core.threads] == [(0, 0, True), (1, 1, True)]
    ((thread,),) = (core.threads for core in second.cores)
    assert (thread.id, thread.numa_node, thread.online, thread.isolated) == (3, 1, False, True)


def test_memory(host: Path) -> None:
    memory = read(host).memory
    assert (memory.total, memory.used) == (1000 << 10, 600 << 10)
    assert (memory.hugepages_total, memory.hugepages_used) == (4 * (2 << 20), 3 * (2 << 20))
    assert [(node.total, node.used, node.hugepages_total) for node in memory.nodes] == [
        (600 << 10, 450 << 10, 2 * (2 << 20)),
        (400 << 10, 0, 0),
    ]


def test_devices(host: Path) -> None:
    resources = read(host)
    (pci,) = resources.pci.devices
    assert (pci.pci_address, pci.vendor_id, pci.product_id, pci.numa_node) == ("0000:01:00.0", "8086", "100e", 0)
    (usb,) = resources.usb.devices
    assert (usb.vendor_id, usb.device_address, usb.speed, usb.interfaces[0].class_id) == ("0781", 5, 480.0, 8)
    (card,) = resources.network.cards
    (port,) = card.ports
    assert (card.vendor_id, port.id, port.link_detected, port.link_speed) == ("8086", "eth0", True, 1000)


def test_disks(host: Path) -> None:
    (disk,) = read(host).storage.disks
    assert (disk.id, disk.device, disk.size, disk.rpm, disk.mounted) == ("sda", "8:0", 1 << 20, 1, False)
    (partition,) = disk.partitions
    assert (partition.id, partition.partition, partition.size, partition.mounted) == ("sda1", 1, 512 << 10, True)


def test_the_machine(host: Path) -> None:
    system = read(host).system
    assert (system.vendor, system.type) == ("QEMU", "virtual-machine")
    (host / "run/systemd").mkdir(parents=True)
    (host / "run/systemd/container").write_text("lxc")
    assert read(host).system.type == "container"


def test_a_host_that_tells_nothing_is_an_empty_one(tmp_path: Path) -> None:
    resources = read(tmp_path)
    assert (resources.cpu.total, resources.memory.total, resources.storage.total) == (0, 0, 0)
    assert resources.system.type == "physical"
