"""The managed bridge and the addresses on it.

The bridge is made when the first instance that wants it starts; it stays until the network is deleted.
"""

import asyncio
import ipaddress
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from lxdpy.config import Config
from lxdpy.db import leases as table
from lxdpy.db.connection import Database
from lxdpy.db.leases import LeaseRecord
from lxdpy.drivers.base import BridgeSpec, NetworkHost
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.services.events import Announce
from lxdpy.services.uninterrupted import uninterrupted


@dataclass(frozen=True, slots=True)
class Network:
    """A managed network as clients see it."""

    name: str
    ipv4_address: str
    used_by: tuple[str, ...]
    """Names of instances that have a lease."""


@dataclass(frozen=True, slots=True)
class Nic:
    """What a NIC needs to come up: everything an instance's configuration says of it."""

    bridge: str
    address: ipaddress.IPv4Interface
    gateway: ipaddress.IPv4Address
    hwaddr: str


class NetworkService:
    """Every managed network of this host: today the one bridge of the configuration."""

    def __init__(self, config: Config, database: Database, host: NetworkHost, announce: Announce) -> None:
        self._spec = BridgeSpec(config.network.bridge, config.network.ipv4_address)
        self._interface = ipaddress.IPv4Interface(self._spec.ipv4_address)
        self._database = database
        self._host = host
        self._announce = announce
        self._leases: dict[tuple[str, str], LeaseRecord] = {}
        self._taken: set[str] = set()
        self._next_host = 2
        self._preparing = asyncio.Lock()

    async def load(self) -> None:
        """Read the database."""
        leases = await self._database.run(table.load)
        self._leases = {(lease.instance, lease.device): lease for lease in leases}
        self._taken = {lease.address for lease in leases}

    def all(self) -> list[Network]:
        """Every managed network."""
        return [self.get(self._spec.name)]

    def get(self, name: str) -> Network:
        """One network. Raises NotFoundError."""
        if name != self._spec.name:
            raise NotFoundError(f'Network "{name}" not found')
        return Network(name, self._spec.ipv4_address, tuple(sorted({instance for instance, _ in self._leases})))

    def leases(self, name: str) -> list[LeaseRecord]:
        """The addresses given on one network. Raises NotFoundError."""
        self.get(name)
        return sorted(self._leases.values(), key=lambda lease: ipaddress.IPv4Address(lease.address))

    async def delete(self, name: str) -> None:
        """Take the bridge and its firewall rules down; the next start that wants it makes it again.

        Raises NotFoundError, and ConflictError while instances have leases on it.
        """
        async with self._preparing:
            network = self.get(name)
            if network.used_by:
                raise ConflictError(f'Cannot delete network "{name}": in use by {", ".join(network.used_by[:5])}')
            await self._host.remove_bridge(name)
        self._announce("network-deleted", f"/1.0/networks/{name}")

    async def attach(self, instance: str, device: str, settings: Mapping[str, str], hwaddr: str) -> Nic:
        """Make the bridge ready and give a NIC device its address, the same one at every start.

        `settings` may pin `ipv4.address`. Raises NotFoundError for an unknown network, ConflictError for an address
        that is taken or a network that is full, InvalidRequestError for one outside the network.
        """
        bridge = settings.get("network") or settings.get("parent") or ""
        self.get(bridge)
        async with self._preparing:
            # Cheap when all is in place; whoever took a rule away since (docker's start does) is made good.
            await self._host.ensure_bridge(self._spec)
            lease = await uninterrupted(self._lease(instance, device, settings.get("ipv4.address", ""), hwaddr))
        address = ipaddress.IPv4Interface(f"{lease.address}/{self._interface.network.prefixlen}")
        return Nic(bridge, address, self._interface.ip, lease.hwaddr)

    async def remove_link(self, name: str) -> None:
        """Remove the host's end of a veth that a dead container left."""
        await self._host.remove_link(name)

    def forget(self, instance: str) -> None:
        """Drop the leases of an instance that was deleted (the database dropped them with it)."""
        for key in [key for key in self._leases if key[0] == instance]:
            self._taken.discard(self._leases.pop(key).address)

    async def _lease(self, instance: str, device: str, wanted: str, hwaddr: str) -> LeaseRecord:
        current = self._leases.get((instance, device))
        if current is not None and wanted in ("", current.address) and current.hwaddr == hwaddr:
            return current
        own = {current.address} if current else set()
        address = self._pinned(wanted, own) if wanted else current.address if current else self._free()
        lease = LeaseRecord(self._spec.name, address, instance, device, hwaddr)

        def write(db: sqlite3.Connection) -> None:
            table.delete(db, instance, device)
            table.put(db, lease)

        await self._database.run(write)
        self._taken -= own
        self._taken.add(address)
        self._leases[instance, device] = lease
        return lease

    def _pinned(self, wanted: str, own: set[str]) -> str:
        try:
            address = ipaddress.IPv4Address(wanted)
        except ValueError as exc:
            raise InvalidRequestError(f'Invalid ipv4.address "{wanted}": {exc}') from exc
        network = self._interface.network
        if address not in network or address in (network.network_address, network.broadcast_address):
            raise InvalidRequestError(f'Invalid ipv4.address "{wanted}": not a host address of {network}')
        if str(address) in self._taken - own or address == self._interface.ip:
            raise ConflictError(f'Cannot use ipv4.address "{wanted}": it is taken')
        return str(address)

    def _free(self) -> str:
        """The next free address, round the network, so that one just given back rests."""
        network = self._interface.network
        hosts = network.num_addresses - 2
        for step in range(hosts):
            number = (self._next_host - 1 + step) % hosts + 1
            address = network.network_address + number
            if address != self._interface.ip and str(address) not in self._taken:
                self._next_host = number + 1
                return str(address)
        raise ConflictError(f'Network "{self._spec.name}" ({network}) has no free address')
