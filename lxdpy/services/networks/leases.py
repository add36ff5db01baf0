"""The IPv4 addresses of NICs: each keeps its own from its first start until it is deleted."""

import dataclasses
import ipaddress
import sqlite3
from collections import defaultdict

from lxdpy.db import leases as table
from lxdpy.db.connection import Database
from lxdpy.db.leases import LeaseRecord
from lxdpy.errors import ConflictError, InvalidRequestError
from lxdpy.project import plain_name
from lxdpy.services.networks.settings import Range, Settings
from lxdpy.services.uninterrupted import uninterrupted


class Leases:
    """Every lease of this host, on disk and in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leases: dict[tuple[str, str], LeaseRecord] = {}
        self._taken: dict[str, set[str]] = defaultdict(set)
        self._next: dict[str, int] = defaultdict(int)

    async def load(self) -> None:
        """Read the database."""
        for lease in await self._database.run(table.load):
            self._leases[lease.instance, lease.device] = lease
            self._taken[lease.network].add(lease.address)

    def of(self, network: str) -> list[LeaseRecord]:
        """Those on one network, in order of addresses."""
        found = (lease for lease in self._leases.values() if lease.network == network)
        return sorted(found, key=lambda lease: ipaddress.IPv4Address(lease.address))

    def find(self, instance: str, device: str) -> LeaseRecord | None:
        """The one of a device."""
        return self._leases.get((instance, device))

    def is_taken(self, network: str, address: str) -> bool:
        """Whether somebody has an address."""
        return address in self._taken[network]

    async def give(self, settings: Settings, instance: str, device: str, wanted: str, hwaddr: str) -> LeaseRecord:
        """The lease of a device, the same as before where that can be; `wanted` pins its address.

        Raises ConflictError for an address that is taken or a network that is full, InvalidRequestError for one
        outside the network. Callers take turns.
        """
        network = settings.bridge.name
        current = self.find(instance, device)
        own = current.address if current is not None and current.network == network else ""
        if current is not None and own and wanted in ("", own) and current.hwaddr == hwaddr and _fits(settings, own):
            return current
        for other in self._leases.values():
            if other is not current and (other.network, other.hwaddr) == (network, hwaddr):
                owner = plain_name(other.instance)
                raise ConflictError(f'Cannot use hwaddr "{hwaddr}": it is that of instance "{owner}"')
        if wanted:
            address = self._pinned(settings, wanted, own)
        elif own and _fits(settings, own):
            address = own
        else:
            address = self._free(settings)
        lease = LeaseRecord(network, address, instance, device, hwaddr)
        await uninterrupted(self._replace(current, lease))
        return lease

    async def drop(self, instance: str, device: str) -> LeaseRecord | None:
        """Take a device's lease back."""
        lease = self.find(instance, device)
        if lease is not None:
            await uninterrupted(self._replace(lease, None))
        return lease

    def forget(self, instance: str) -> list[LeaseRecord]:
        """The leases of an instance that was deleted, and the database's rows with it."""
        gone = [lease for lease in self._leases.values() if lease.instance == instance]
        for lease in gone:
            self._remove(lease)
        return gone

    def rename(self, instance: str, new_name: str) -> list[tuple[LeaseRecord, LeaseRecord]]:
        """The leases of an instance that was renamed, and the rows with it: as they were, and as they are."""
        renamed = [
            (lease, dataclasses.replace(lease, instance=new_name))
            for lease in self._leases.values()
            if lease.instance == instance
        ]
        for former, lease in renamed:
            del self._leases[former.instance, former.device]
            self._leases[lease.instance, lease.device] = lease
        return renamed

    async def _replace(self, former: LeaseRecord | None, lease: LeaseRecord | None) -> None:
        def write(db: sqlite3.Connection) -> None:
            if former is not None:
                table.delete(db, former.instance, former.device)
            if lease is not None:
                table.put(db, lease)

        await self._database.run(write)
        if former is not None:
            self._remove(former)
        if lease is not None:
            self._leases[lease.instance, lease.device] = lease
            self._taken[lease.network].add(lease.address)

    def _remove(self, lease: LeaseRecord) -> None:
        if self._leases.pop((lease.instance, lease.device), None) is not None:
            self._taken[lease.network].discard(lease.address)

    def _pinned(self, settings: Settings, wanted: str, own: str) -> str:
        try:
            address = ipaddress.IPv4Address(wanted)
        except ValueError as exc:
            raise InvalidRequestError(f'Invalid ipv4.address "{wanted}": {exc}') from exc
        assert settings.ipv4 is not None
        network = settings.ipv4.network
        if address not in network or address in (network.network_address, network.broadcast_address):
            raise InvalidRequestError(f'Invalid ipv4.address "{wanted}": not a host address of {network}')
        if address == settings.ipv4.ip:
            raise ConflictError(f'Cannot use ipv4.address "{wanted}": it is that of network "{settings.bridge.name}"')
        if str(address) in self._taken[settings.bridge.name] - {own}:
            raise ConflictError(
                f'Cannot use ipv4.address "{wanted}": {self._holder(settings.bridge.name, str(address))} has it'
            )
        return str(address)

    def _holder(self, network: str, address: str) -> str:
        """Whose a taken address is, for people."""
        return next(
            (
                f'instance "{plain_name(lease.instance)}"'
                for lease in self._leases.values()
                if (lease.network, lease.address) == (network, address)
            ),
            "another instance",
        )

    def _free(self, settings: Settings) -> str:
        """The next free address, round the ranges, so that one just given back rests."""
        assert settings.ipv4 is not None
        name, network = settings.bridge.name, settings.ipv4.network
        ranges = settings.ranges or ((network.network_address + 1, network.broadcast_address - 1),)
        total = sum(_length(each) for each in ranges)
        taken = self._taken[name]
        for step in range(total):
            number = (self._next[name] + step) % total
            address = _nth(ranges, number)
            if str(address) not in taken and _fits(settings, str(address)):
                self._next[name] = number + 1
                return str(address)
        raise ConflictError(f'Network "{name}" ({network}) has no free address')


def _fits(settings: Settings, address: str) -> bool:
    """Whether a host of the network may have an address."""
    assert settings.ipv4 is not None
    network, found = settings.ipv4.network, ipaddress.IPv4Address(address)
    return found in network and found not in (network.network_address, network.broadcast_address, settings.ipv4.ip)


def _length(each: Range) -> int:
    return int(each[1]) - int(each[0]) + 1


def _nth(ranges: tuple[Range, ...], number: int) -> ipaddress.IPv4Address:
    for each in ranges:
        if number < _length(each):
            return each[0] + number
        number -= _length(each)
    raise AssertionError
