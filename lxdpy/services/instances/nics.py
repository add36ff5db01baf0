"""NIC devices: what liblxc is told of them, what is plugged into containers that run, and what of it the daemon made up
and must remember."""

import logging
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.drivers.base import LinkSpec
from lxdpy.errors import LxdpyError, UnsupportedError
from lxdpy.services.networks import NetworkService, Nic, Resolver

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cards:
    """The NICs of one start."""

    items: tuple[tuple[str, str], ...]
    """liblxc's configuration."""
    address: str | None
    """IPv4 address of the first NIC that has one."""
    resolver: Resolver | None
    """Who answers for names; None: the host's name servers."""
    volatile: Mapping[str, str]
    """Addresses and names that stay the same at the next start."""


@dataclass(slots=True)
class Change:
    """The NICs of a container that runs, as they are being changed; `undo` takes back what was done."""

    networks: NetworkService
    record: InstanceRecord
    init_pid: int
    asks: bool
    routed: bool
    """Whether a NIC that stays has the default route."""
    plugged: list[tuple[str, LinkSpec]] = field(default_factory=list)
    unplugged: dict[str, Mapping[str, str]] = field(default_factory=dict)
    volatile: dict[str, str] = field(default_factory=dict)
    """Keys to set; "" removes one."""

    async def finish(self, devices: Devices) -> None:
        """Take back what NICs had that are gone for good; `devices` are those that there are now."""
        for name in self.unplugged.keys() - devices.keys():
            await self.networks.detach(self.record.name, name)

    async def undo(self) -> None:
        """Put everything back, as far as that goes."""
        for name, link in reversed(self.plugged):
            await self._attempt(self.networks.unplug(link, self.init_pid), name)
            if name not in self.unplugged:
                await self._attempt(self.networks.detach(self.record.name, name), name)
        for name, device in self.unplugged.items():
            await self._attempt(_plug(self, name, device), name)

    async def _attempt(self, step: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await step
        except LxdpyError as exc:
            logger.error("Cannot put device %s of instance %s back: %s", name, self.record.name, exc)


async def prepare(networks: NetworkService, record: InstanceRecord, devices: Devices, *, asks: bool) -> Cards:
    """Give every NIC what it hangs on and its address, which an instance that `asks` is told by DHCP.

    Raises what `NetworkService.attach` raises.
    """
    items: list[tuple[str, str]] = []
    volatile: dict[str, str] = {}
    address: str | None = None
    resolver: Resolver | None = None
    routed = False
    cards = cards_of(devices)
    for number, (name, device) in enumerate(cards.items()):
        hwaddr, host_name = _identity(record.config, name, device)
        nic = await networks.attach(record.name, name, device, hwaddr, asks=asks)
        volatile |= _volatile(name, nic, host_name)
        items += _items(number, nic, device.get("name", name), host_name)
        if not routed:
            items += [(f"lxc.net.{number}.ipv4.gateway", gateway) for gateway in nic.gateways]
            routed = bool(nic.gateways)
        address = address or nic.ipv4
        resolver = resolver or nic.resolver
    if not cards:
        items.append(("lxc.net.0.type", "empty"))
    return Cards(tuple(items), address, resolver, volatile)


def cards_of(devices: Devices) -> dict[str, Mapping[str, str]]:
    """The NICs among devices, in the order in which they come up."""
    return {name: device for name, device in sorted(devices.items()) if device.get("type") == "nic"}


def host_names(record: InstanceRecord) -> list[str]:
    """The host's ends of an instance's NICs, as its last start named them."""
    return [value for key, value in record.config.items() if key.startswith("volatile.") and key.endswith(".host_name")]


async def change(
    networks: NetworkService,
    record: InstanceRecord,
    init_pid: int,
    before: Devices,
    after: Devices,
    *,
    asks: bool,
) -> Change:
    """Bring the NICs of a running container from one set of devices to another. Raises what attaching and plugging do;
    everything is as before then."""
    old, new = cards_of(before), cards_of(after)
    stays = [name for name, device in old.items() if new.get(name) == device]
    for name, device in [*old.items(), *new.items()]:
        if name not in stays and device.get("nictype") == "physical":
            raise UnsupportedError(
                f'Cannot change device "{name}" of instance "{record.plain_name}" while it runs: it is hardware'
            )
    done = Change(networks, record, init_pid, asks, routed=bool(stays))
    try:
        for name in old.keys() - stays:
            await _unplug(done, name, old[name])
        for name, device in new.items():
            if name not in stays:
                await _plug(done, name, device)
    except BaseException:
        await done.undo()
        raise
    return done


async def _unplug(done: Change, name: str, device: Mapping[str, str]) -> None:
    hwaddr = done.record.config.get(f"volatile.{name}.hwaddr", device.get("hwaddr", ""))
    host_name = done.record.config.get(f"volatile.{name}.host_name", "")
    kind = "macvlan" if device.get("nictype") == "macvlan" else "veth"
    parent = device.get("network") or device.get("parent") or ""
    link = LinkSpec(kind, host_name, parent, device.get("name", name), hwaddr, int(device.get("mtu") or 0), (), ())
    await done.networks.unplug(link, done.init_pid)
    done.unplugged[name] = device
    done.volatile[f"volatile.{name}.host_name"] = ""


async def _plug(done: Change, name: str, device: Mapping[str, str]) -> None:
    hwaddr, host_name = _identity(done.record.config, name, device)
    nic = await done.networks.attach(done.record.name, name, device, hwaddr, asks=done.asks)
    gateways = () if done.routed else nic.gateways
    addresses = tuple(str(address) for address in nic.addresses)
    interface = device.get("name", name)
    link = LinkSpec(nic.kind, host_name, nic.parent, interface, nic.hwaddr, nic.mtu, addresses, gateways)
    await done.networks.plug(link, done.init_pid)
    done.routed = done.routed or bool(gateways)
    done.plugged.append((name, link))
    done.volatile |= _volatile(name, nic, host_name)


def _identity(config: Mapping[str, str], name: str, device: Mapping[str, str]) -> tuple[str, str]:
    """A NIC's hardware address and the name of its host's end: asked for, as before, or new."""
    hwaddr = (device.get("hwaddr") or config.get(f"volatile.{name}.hwaddr") or _hwaddr()).lower()
    return hwaddr, device.get("host_name") or config.get(f"volatile.{name}.host_name") or _host_name()


def _volatile(name: str, nic: Nic, host_name: str) -> dict[str, str]:
    keys = {f"volatile.{name}.hwaddr": nic.hwaddr}
    if nic.kind == "veth":
        keys[f"volatile.{name}.host_name"] = host_name
    return keys


def _items(number: int, nic: Nic, name: str, host_name: str) -> list[tuple[str, str]]:
    prefix = f"lxc.net.{number}"
    items = [(f"{prefix}.type", nic.kind), (f"{prefix}.flags", "up"), (f"{prefix}.name", name)]
    if nic.parent:
        items.append((f"{prefix}.link", nic.parent))
    if nic.kind == "macvlan":
        items.append((f"{prefix}.macvlan.mode", "bridge"))
    if nic.kind == "veth":
        items.append((f"{prefix}.veth.pair", host_name))
    if nic.kind != "phys":
        items.append((f"{prefix}.hwaddr", nic.hwaddr))
    for address in nic.addresses:
        broadcast = f" {address.network.broadcast_address}" if address.version == 4 else ""
        items.append((f"{prefix}.ipv{address.version}.address", f"{address}{broadcast}"))
    if nic.mtu:
        items.append((f"{prefix}.mtu", str(nic.mtu)))
    return items


def _hwaddr() -> str:
    """A random address of Xensource's range, as LXD uses."""
    return "00:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _host_name() -> str:
    return f"veth{secrets.token_hex(4)}"
