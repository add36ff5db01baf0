"""The hardware of a host, in the words and the shape of LXD's API (doc/rest-api: Resources). Sizes are bytes."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Thread:
    """A hardware thread."""

    id: int
    """Its number for the kernel and for `limits.cpu`."""
    numa_node: int
    thread: int
    """Its number in the core."""
    online: bool
    isolated: bool


@dataclass(frozen=True, slots=True)
class Core:
    """A core; frequency in MHz, 0 if the host does not say."""

    core: int
    die: int
    threads: tuple[Thread, ...]
    frequency: int


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache of a socket. type: Data, Instruction or Unified."""

    level: int
    type: str
    size: int


@dataclass(frozen=True, slots=True)
class Socket:
    """A processor; frequencies in MHz, 0 if the host does not say."""

    name: str
    vendor: str
    socket: int
    cache: tuple[Cache, ...]
    cores: tuple[Core, ...]
    frequency: int
    frequency_minimum: int
    frequency_turbo: int


@dataclass(frozen=True, slots=True)
class Cpu:
    """Every processor. total counts threads."""

    architecture: str
    sockets: tuple[Socket, ...]
    total: int


@dataclass(frozen=True, slots=True)
class MemoryNode:
    """The memory of a NUMA node."""

    numa_node: int
    hugepages_used: int
    hugepages_total: int
    used: int
    total: int


@dataclass(frozen=True, slots=True)
class Memory:
    """All memory; used leaves out what the kernel would give back."""

    nodes: tuple[MemoryNode, ...]
    hugepages_total: int
    hugepages_used: int
    hugepages_size: int
    used: int
    total: int


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A PCI device; vendor and product are their hexadecimal ids where no name is known."""

    driver: str
    driver_version: str
    numa_node: int
    pci_address: str
    vendor: str
    vendor_id: str
    product: str
    product_id: str
    iommu_group: int


@dataclass(frozen=True, slots=True)
class GpuDrm:
    """A card's device nodes, as /dev/dri has them."""

    id: int
    card_name: str
    card_device: str
    control_name: str
    control_device: str
    render_name: str
    render_device: str


@dataclass(frozen=True, slots=True)
class GpuCard:
    """A graphics card."""

    driver: str
    driver_version: str
    drm: GpuDrm | None
    numa_node: int
    pci_address: str
    vendor: str
    vendor_id: str
    product: str
    product_id: str


@dataclass(frozen=True, slots=True)
class NetworkPort:
    """A port of a network card. link_speed in Mbit/s."""

    id: str
    address: str
    port: int
    protocol: str
    auto_negotiation: bool
    link_detected: bool
    link_speed: int
    link_duplex: str


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """A network card with a device behind it: bridges and the like are none."""

    driver: str
    driver_version: str
    ports: tuple[NetworkPort, ...]
    numa_node: int
    pci_address: str
    vendor: str
    vendor_id: str
    product: str
    product_id: str
    firmware_version: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a disk. device is MAJOR:MINOR."""

    id: str
    device: str
    read_only: bool
    mounted: bool
    size: int
    partition: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk. device is MAJOR:MINOR; rpm is 0 for what does not turn."""

    id: str
    device: str
    model: str
    type: str
    read_only: bool
    mounted: bool
    size: int
    removable: bool
    numa_node: int
    device_path: str
    block_size: int
    firmware_version: str
    rpm: int
    serial: str
    device_id: str
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class UsbInterface:
    """A function of a USB device."""

    class_id: int
    driver: str
    driver_version: str
    number: int
    subclass_id: int


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device. speed in Mbit/s."""

    bus_address: int
    device_address: int
    interfaces: tuple[UsbInterface, ...]
    vendor: str
    vendor_id: str
    product: str
    product_id: str
    speed: float


@dataclass(frozen=True, slots=True)
class Firmware:
    """The firmware."""

    vendor: str
    date: str
    version: str


@dataclass(frozen=True, slots=True)
class Chassis:
    """The case. type is SMBIOS' number."""

    vendor: str
    type: str
    serial: str
    version: str


@dataclass(frozen=True, slots=True)
class Motherboard:
    """The board."""

    vendor: str
    product: str
    serial: str
    version: str


@dataclass(frozen=True, slots=True)
class System:
    """The machine. type: physical, virtual-machine or container."""

    uuid: str
    vendor: str
    product: str
    family: str
    version: str
    sku: str
    serial: str
    type: str
    firmware: Firmware
    chassis: Chassis
    motherboard: Motherboard


@dataclass(frozen=True, slots=True)
class Cards:
    """Network cards."""

    cards: tuple[NetworkCard, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Gpus:
    """Graphics cards."""

    cards: tuple[GpuCard, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Disks:
    """Disks."""

    disks: tuple[Disk, ...]
    total: int


@dataclass(frozen=True, slots=True)
class PciDevices:
    """PCI devices."""

    devices: tuple[PciDevice, ...]
    total: int


@dataclass(frozen=True, slots=True)
class UsbDevices:
    """USB devices."""

    devices: tuple[UsbDevice, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything."""

    cpu: Cpu
    memory: Memory
    gpu: Gpus
    network: Cards
    storage: Disks
    usb: UsbDevices
    pci: PciDevices
    system: System


class Hardware(Protocol):
    """Reads what hardware this host has."""

    def read(self) -> Resources:
        """Everything, as it is now. Blocks for some milliseconds."""
