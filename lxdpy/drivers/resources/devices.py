"""Devices on buses: PCI, USB, graphics and network cards. Names of vendors and products are not known to the kernel."""

import re
from pathlib import Path

from lxdpy.drivers.hardware import (
    Cards,
    GpuCard,
    GpuDrm,
    Gpus,
    NetworkCard,
    NetworkPort,
    PciDevice,
    PciDevices,
    UsbDevice,
    UsbDevices,
    UsbInterface,
)
from lxdpy.drivers.resources.files import entries, link_name, number, text

_ETHERNET = 1
_INFINIBAND = 32


def read_pci(root: Path) -> PciDevices:
    """Every PCI device."""
    found = []
    for path in entries(root / "sys/bus/pci/devices"):
        driver, version = _driver(path)
        group = link_name(path / "iommu_group")
        found.append(
            PciDevice(
                driver=driver,
                driver_version=version,
                numa_node=_node(path),
                pci_address=path.name,
                vendor="",
                vendor_id=_hex(path / "vendor"),
                product="",
                product_id=_hex(path / "device"),
                iommu_group=int(group) if group.isdigit() else 0,
            )
        )
    return PciDevices(tuple(found), len(found))


def read_usb(root: Path) -> UsbDevices:
    """Every USB device but the hubs that are the buses themselves."""
    found = []
    devices = root / "sys/bus/usb/devices"
    for path in entries(devices):
        if ":" in path.name or path.name.startswith("usb") or not text(path / "idVendor"):
            continue
        interfaces = [_usb_interface(entry) for entry in entries(devices) if entry.name.startswith(f"{path.name}:")]
        speed = text(path / "speed")
        found.append(
            UsbDevice(
                bus_address=number(path / "busnum"),
                device_address=number(path / "devnum"),
                interfaces=tuple(interfaces),
                vendor=text(path / "manufacturer"),
                vendor_id=text(path / "idVendor"),
                product=text(path / "product"),
                product_id=text(path / "idProduct"),
                speed=float(speed) if re.fullmatch(r"[\d.]+", speed) else 0.0,
            )
        )
    return UsbDevices(tuple(found), len(found))


def _usb_interface(path: Path) -> UsbInterface:
    driver, version = _driver(path)
    return UsbInterface(
        class_id=int(text(path / "bInterfaceClass") or "0", 16),
        driver=driver,
        driver_version=version,
        number=int(text(path / "bInterfaceNumber") or "0", 16),
        subclass_id=int(text(path / "bInterfaceSubClass") or "0", 16),
    )


def read_gpus(root: Path) -> Gpus:
    """Cards with a device below /dev/dri."""
    found = []
    drm = root / "sys/class/drm"
    for path in entries(drm):
        if not re.fullmatch(r"card\d+", path.name) or not (path / "device").exists():
            continue
        nodes = {entry.name: text(entry / "dev") for entry in entries(path / "device/drm")}
        driver, version = _driver(path / "device")

        def node(prefix: str, nodes: dict[str, str] = nodes) -> tuple[str, str]:
            return next(((name, dev) for name, dev in nodes.items() if name.startswith(prefix)), ("", ""))

        found.append(
            GpuCard(
                driver=driver,
                driver_version=version,
                drm=GpuDrm(int(path.name[4:]), *node("card"), *node("controlD"), *node("renderD")),
                numa_node=_node(path / "device"),
                pci_address=_pci_address(path / "device"),
                vendor="",
                vendor_id=_hex(path / "device/vendor"),
                product="",
                product_id=_hex(path / "device/device"),
            )
        )
    return Gpus(tuple(found), len(found))


def read_network_cards(root: Path) -> Cards:
    """Network interfaces that have a device behind them, by device."""
    ports: dict[Path, list[NetworkPort]] = {}
    for path in entries(root / "sys/class/net"):
        if (path / "device").exists():
            ports.setdefault((path / "device").resolve(), []).append(_port(path))
    found = []
    for device, its_ports in ports.items():
        driver, version = _driver(device)
        found.append(
            NetworkCard(
                driver=driver,
                driver_version=version,
                ports=tuple(its_ports),
                numa_node=_node(device),
                pci_address=_pci_address(device),
                vendor="",
                vendor_id=_hex(device / "vendor"),
                product="",
                product_id=_hex(device / "device"),
                firmware_version="",
            )
        )
    return Cards(tuple(found), len(found))


def _port(path: Path) -> NetworkPort:
    kind = number(path / "type")
    return NetworkPort(
        id=path.name,
        address=text(path / "address"),
        port=number(path / "dev_port"),
        protocol={_ETHERNET: "ethernet", _INFINIBAND: "infiniband"}.get(kind, "unknown"),
        auto_negotiation=False,
        link_detected=text(path / "carrier") == "1",
        link_speed=max(number(path / "speed"), 0),
        link_duplex=text(path / "duplex").replace("unknown", ""),
    )


def _driver(device: Path) -> tuple[str, str]:
    return link_name(device / "driver"), text(device / "driver/module/version")


def _node(device: Path) -> int:
    """Its NUMA node; 0 where the host has one only, for which the kernel says -1."""
    return max(number(device / "numa_node"), 0)


def _hex(path: Path) -> str:
    return text(path).removeprefix("0x")


def _pci_address(device: Path) -> str:
    return device.resolve().name if link_name(device / "subsystem") == "pci" else ""
