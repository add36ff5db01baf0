"""The driver, and the machine itself as SMBIOS describes it."""

from pathlib import Path

from lxdpy.drivers.hardware import Chassis, Firmware, Motherboard, Resources, System
from lxdpy.drivers.resources.devices import read_gpus, read_network_cards, read_pci, read_usb
from lxdpy.drivers.resources.disks import read_disks
from lxdpy.drivers.resources.files import text
from lxdpy.drivers.resources.processors import read_cpu, read_memory


class HostResources:
    """Reads the hardware of the host whose /proc, /sys and /dev lie below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def read(self) -> Resources:
        """Everything, as it is now. Reads some hundred small files: not for the event loop."""
        root = self._root
        return Resources(
            cpu=read_cpu(root),
            memory=read_memory(root),
            gpu=read_gpus(root),
            network=read_network_cards(root),
            storage=read_disks(root),
            usb=read_usb(root),
            pci=read_pci(root),
            system=_system(root),
        )


def _system(root: Path) -> System:
    def dmi(name: str) -> str:
        return text(root / "sys/class/dmi/id" / name)

    return System(
        uuid=dmi("product_uuid"),
        vendor=dmi("sys_vendor"),
        product=dmi("product_name"),
        family=dmi("product_family"),
        version=dmi("product_version"),
        sku=dmi("product_sku"),
        serial=dmi("product_serial"),
        type=_type(root),
        firmware=Firmware(dmi("bios_vendor"), dmi("bios_date"), dmi("bios_version")),
        chassis=Chassis(dmi("chassis_vendor"), dmi("chassis_type"), dmi("chassis_serial"), dmi("chassis_version")),
        motherboard=Motherboard(dmi("board_vendor"), dmi("board_name"), dmi("board_serial"), dmi("board_version")),
    )


def _type(root: Path) -> str:
    """What systemd-detect-virt looks at first: where we are, and whether the processor says that it is a guest's."""
    if text(root / "run/systemd/container"):
        return "container"
    flags = next((line for line in text(root / "proc/cpuinfo").splitlines() if line.startswith("flags")), "")
    return "virtual-machine" if "hypervisor" in flags.split() else "physical"
