"""NIC devices: what liblxc is told of them, and what of it the daemon made up and must remember."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.services.networks import NetworkService, Nic


@dataclass(frozen=True, slots=True)
class Cards:
    """The NICs of one start."""

    items: tuple[tuple[str, str], ...]
    """liblxc's configuration."""
    address: str | None
    """IPv4 address of the first NIC."""
    volatile: Mapping[str, str]
    """Addresses and names that stay the same at the next start."""


async def prepare(networks: NetworkService, record: InstanceRecord, devices: Devices) -> Cards:
    """Give every NIC its bridge and address. Raises what `NetworkService.attach` raises."""
    items: list[tuple[str, str]] = []
    volatile: dict[str, str] = {}
    first: str | None = None
    cards = [(name, device) for name, device in sorted(devices.items()) if device.get("type") == "nic"]
    for number, (name, device) in enumerate(cards):
        hwaddr = device.get("hwaddr") or record.config.get(f"volatile.{name}.hwaddr") or _hwaddr()
        host_name = device.get("host_name") or record.config.get(f"volatile.{name}.host_name") or _host_name()
        nic = await networks.attach(record.name, name, device, hwaddr)
        volatile |= {f"volatile.{name}.hwaddr": hwaddr, f"volatile.{name}.host_name": host_name}
        items += _items(number, nic, device.get("name", name), host_name, device.get("mtu"))
        first = first or str(nic.address.ip)
    if not cards:
        items.append(("lxc.net.0.type", "empty"))
    return Cards(tuple(items), first, volatile)


def host_names(record: InstanceRecord) -> list[str]:
    """The host's ends of an instance's NICs, as its last start named them."""
    return [value for key, value in record.config.items() if key.startswith("volatile.") and key.endswith(".host_name")]


def _items(number: int, nic: Nic, name: str, host_name: str, mtu: str | None) -> list[tuple[str, str]]:
    prefix = f"lxc.net.{number}"
    items = [
        (f"{prefix}.type", "veth"),
        (f"{prefix}.link", nic.bridge),
        (f"{prefix}.flags", "up"),
        (f"{prefix}.name", name),
        (f"{prefix}.hwaddr", nic.hwaddr),
        (f"{prefix}.veth.pair", host_name),
        (f"{prefix}.ipv4.address", f"{nic.address} {nic.address.network.broadcast_address}"),
    ]
    if number == 0:
        items.append((f"{prefix}.ipv4.gateway", str(nic.gateway)))
    if mtu:
        items.append((f"{prefix}.mtu", mtu))
    return items


def _hwaddr() -> str:
    """A random address of Xensource's range, as LXD uses."""
    return "00:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _host_name() -> str:
    return f"veth{secrets.token_hex(4)}"
