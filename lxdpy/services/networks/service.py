"""Managed networks: bridges with addresses, NAT, DHCP and DNS, and what NICs get of them.

The network of the daemon's configuration is always there, as the configuration says until a client changes it; its
bridge is made when the first instance that wants it starts. All others are made by clients. Bridges stay, whether a
daemon runs or not, until their network is deleted.

On disk: a network's row is there before its bridge, and goes after it, so that a daemon that is killed in between
leaves nothing that the next one does not know of.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from lxdpy.config import Config
from lxdpy.db import networks as table
from lxdpy.db.connection import Database
from lxdpy.db.leases import LeaseRecord
from lxdpy.db.networks import NetworkRecord
from lxdpy.drivers.base import HostInterface, InterfaceUsage, LeaseServer, LinkSpec, NetworkHost, ServedHost
from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, NotFoundError, UnsupportedError
from lxdpy.project import DEFAULT, dns_name, project_of
from lxdpy.services.events import Announce
from lxdpy.services.networks import settings as rules
from lxdpy.services.networks.leases import Leases
from lxdpy.services.networks.settings import Settings
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

Devices = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Network:
    """A managed network as clients see it."""

    name: str
    description: str
    config: Mapping[str, str]
    used_by: tuple[str, ...]
    """Paths of the instances and profiles whose NICs are on it."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """Who answers for names on a network."""

    address: str
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nic:
    """What a NIC needs to come up: everything an instance's configuration says of it."""

    kind: str
    """As LinkSpec's, or `phys`: the host's own interface."""
    parent: str
    hwaddr: str
    mtu: int
    """0: the kernel's default."""
    addresses: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...] = ()
    """What the container is given by its configuration, because it runs no DHCP client."""
    gateways: tuple[str, ...] = ()
    resolver: Resolver | None = None

    @property
    def ipv4(self) -> str | None:
        """The IPv4 address, if it is given one."""
        return next((str(address.ip) for address in self.addresses if address.version == 4), None)


class NetworkService:
    """Every managed network of this host."""

    def __init__(
        self, config: Config, database: Database, host: NetworkHost, servers: LeaseServer, announce: Announce
    ) -> None:
        self._configured = NetworkRecord(
            config.network.bridge,
            config={"ipv4.address": config.network.ipv4_address, "ipv4.nat": "true", "ipv6.address": "none"},
        )
        self._database = database
        self._host = host
        self._servers = servers
        self._announce = announce
        self._leases = Leases(database)
        self._records: dict[str, NetworkRecord] = {}
        self._settings: dict[str, Settings] = {}
        self._users: list[Callable[[], Iterable[tuple[str, Devices]]]] = []
        self._changing = asyncio.Lock()
        self._restoring: asyncio.Task[None] | None = None

    # ---- life of the daemon

    async def load(self) -> None:
        """Read the database, and have what should be there be there, in the background."""
        await self._leases.load()
        for record in (self._configured, *await self._database.run(table.load)):
            self._keep(record)
        self._restoring = asyncio.create_task(self._restore(), name="restore networks")

    async def close(self) -> None:
        """Look no more after the networks, which stay."""
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.wait([self._restoring])
        await self._servers.close()

    async def _restore(self) -> None:
        try:
            await self._servers.sweep(self._records)
            present = {interface.usage.name for interface in await self.interfaces()}
        except LxdpyError as exc:
            logger.error("Cannot look after networks of an earlier daemon: %s", exc)
            return
        for name in list(self._records):
            if name == self._configured.name and name not in present:
                continue
            try:
                async with self._changing:
                    if name in self._settings:
                        await self._bring_up(self._settings[name])
            except LxdpyError as exc:
                logger.error("Cannot bring network %s up: %s", name, exc)

    # ---- reading

    def add_users(self, users: Callable[[], Iterable[tuple[str, Devices]]]) -> None:
        """`users` gives paths of what has devices, and these devices: that is what networks are used by."""
        self._users.append(users)

    def all(self) -> list[Network]:
        """Every managed network, by name."""
        used = self._used()
        return [self._view(record, used) for _, record in sorted(self._records.items())]

    def get(self, name: str) -> Network:
        """One managed network. Raises NotFoundError."""
        try:
            return self._view(self._records[name], self._used())
        except KeyError:
            raise NotFoundError(f'Network "{name}" not found') from None

    def leases(self, name: str) -> list[LeaseRecord]:
        """The addresses given on one network. Raises NotFoundError."""
        self._found(name)
        return self._leases.of(name)

    def ipv6_addresses(self, name: str) -> list[tuple[LeaseRecord, str]]:
        """The addresses that NICs on one network give themselves by its router advertisements. Raises NotFoundError."""
        ipv6 = self._found(name).ipv6
        if ipv6 is None:
            return []
        return [(lease, str(rules.slaac(ipv6.network, lease.hwaddr))) for lease in self._leases.of(name)]

    def gateways(self, name: str) -> list[str]:
        """The host's own addresses on one network. Raises NotFoundError."""
        settings = self._found(name)
        return [str(address.ip) for address in (settings.ipv4, settings.ipv6) if address is not None]

    async def interfaces(self) -> list[HostInterface]:
        """Every interface of the host, managed or not. Raises WorkerError."""
        return await asyncio.to_thread(self._host.interfaces)

    async def interface(self, name: str) -> HostInterface:
        """One interface; a managed network's that is not made yet is down. Raises NotFoundError, WorkerError."""
        for interface in await self.interfaces():
            if interface.usage.name == name:
                return interface
        if name in self._records:
            return HostInterface(InterfaceUsage(name, (), "", 0, False, "broadcast", "", {}), "bridge", None)
        raise NotFoundError(f'Network interface "{name}" not found')

    def users_of(self, name: str) -> tuple[str, ...]:
        """Paths of what has a NIC on an interface of the host."""
        return tuple(sorted(self._used().get(name, ())))

    # ---- changing

    async def create(self, name: str, kind: str, description: str, config: Mapping[str, str]) -> None:
        """Make a network and its bridge. Raises ConflictError, InvalidRequestError, UnsupportedError, WorkerError."""
        if kind not in ("", "bridge"):
            raise UnsupportedError(
                f'Cannot create network "{name:.100}" of type "{kind:.100}": only "bridge" is supported'
            )
        rules.check_name(name)
        async with self._changing:
            interfaces = await self.interfaces()
            if name in self._records:
                raise ConflictError("The network already exists")
            if any(interface.usage.name == name for interface in interfaces):
                raise ConflictError(f'Cannot create network "{name}": the host has an interface of that name')
            # Where there is IPv6, loopback has an address of it.
            ipv6 = any(address.family == "inet6" for entry in interfaces for address in entry.usage.addresses)
            completed = rules.completed(config, new=True, taken=self._taken(interfaces), ipv6=ipv6)
            record = NetworkRecord(name, description, completed)
            await uninterrupted(self._create(record, self._parse(record)))
        self._announce("network-created", f"/1.0/networks/{name}")

    async def update(self, name: str, change: Callable[[Network], tuple[str, Mapping[str, str]]]) -> None:
        """Replace description and configuration by what `change` makes of them; NICs that are up keep what they have
        until their instances start again.

        Raises NotFoundError, InvalidRequestError, UnsupportedError, ConflictError, WorkerError, and what `change` does;
        the network stays as it was then.
        """
        async with self._changing:
            current = self.get(name)
            description, config = change(current)
            taken = self._taken(await self.interfaces())
            record = NetworkRecord(name, description, rules.completed(config, new=False, taken=taken))
            await uninterrupted(self._update(record, self._parse(record)))
        self._announce("network-updated", f"/1.0/networks/{name}")

    async def rename(self, name: str, new_name: str) -> None:
        """Give an unused network another name.

        Raises NotFoundError, ConflictError, InvalidRequestError, WorkerError.
        """
        rules.check_name(new_name)
        async with self._changing:
            network = self.get(name)
            if name == self._configured.name:
                raise InvalidRequestError(f'Cannot rename network "{name}": the configuration file names it')
            if network.used_by:
                raise ConflictError(f'Cannot rename network "{name}": Network is currently in use')
            interfaces = await self.interfaces()
            if new_name in self._records or any(entry.usage.name == new_name for entry in interfaces):
                raise ConflictError(f'Cannot rename network "{name}": network or interface "{new_name}" already exists')
            await uninterrupted(self._rename(self._records[name], new_name))
        self._announce("network-renamed", f"/1.0/networks/{new_name}", {"old_name": name})

    async def delete(self, name: str) -> None:
        """Take a network down with its bridge, rules and servers. The one of the configuration file is back as that
        says when the next start wants it, and may be taken down while only profiles name it.

        Raises NotFoundError, and ConflictError while it is in use.
        """
        async with self._changing:
            used_by = self.get(name).used_by
            if name == self._configured.name:
                used_by = tuple(user for user in used_by if not user.startswith("/1.0/profiles/"))
            if used_by:
                raise ConflictError(
                    f'Cannot delete network "{name}": The network is currently in use by {", ".join(used_by[:5])}'
                )
            await uninterrupted(self._delete(name))
        self._announce("network-deleted", f"/1.0/networks/{name}")

    async def _create(self, record: NetworkRecord, settings: Settings) -> None:
        await self._database.run(lambda db: table.put(db, record))
        try:
            await self._bring_up(settings)
        except LxdpyError:
            await self._take_down(record.name)
            await self._database.run(lambda db: table.delete(db, record.name))
            raise
        self._keep(record)

    async def _update(self, record: NetworkRecord, settings: Settings) -> None:
        former = self._records[record.name]
        await self._write(record)
        try:
            await self._bring_up(settings)
        except LxdpyError:
            await self._write(former)
            try:
                await self._bring_up(self._settings[record.name])
            except LxdpyError as exc:
                logger.error("Cannot put network %s back as it was: %s", record.name, exc)
            raise
        self._keep(record)

    async def _rename(self, record: NetworkRecord, new_name: str) -> None:
        await self._take_down(record.name)
        await self._database.run(lambda db: table.rename(db, record.name, new_name))
        del self._records[record.name], self._settings[record.name]
        self._keep(replace(record, name=new_name))
        await self._bring_up(self._settings[new_name])

    async def _delete(self, name: str) -> None:
        await self._take_down(name)
        for lease in self._leases.of(name):
            await self._leases.drop(lease.instance, lease.device)
        await self._database.run(lambda db: table.delete(db, name))
        del self._records[name], self._settings[name]
        if name == self._configured.name:
            self._keep(self._configured)

    async def _write(self, record: NetworkRecord) -> None:
        """Write a row; none stands for the configuration file's."""
        if record == self._configured:
            await self._database.run(lambda db: table.delete(db, record.name))
        else:
            await self._database.run(lambda db: table.put(db, record))

    async def _bring_up(self, settings: Settings) -> None:
        """Make bridge and servers as wanted; cheap when all is in place. Whoever took a rule away since (docker's start
        does) is made good."""
        name = settings.bridge.name
        await self._host.ensure_bridge(settings.bridge)
        if settings.is_served:
            await self._servers.serve(settings.served, lambda: [_host(lease) for lease in self._leases.of(name)])
        else:
            await self._servers.stop(name)

    async def _take_down(self, name: str) -> None:
        await self._servers.stop(name)
        await self._host.remove_bridge(name)

    # ---- NICs

    def check(self, devices: Devices) -> None:
        """Raises NotFoundError when NICs among `devices` are on networks that do not exist."""
        for device in devices.values():
            if device.get("type") == "nic" and (name := device.get("network")):
                self._found(name)

    async def attach(
        self, instance: str, device: str, wanted: Mapping[str, str], hwaddr: str, *, asks: bool = False
    ) -> Nic:
        """Make ready what a NIC device hangs on, and give it its address, the same one at every start.

        An instance that `asks` runs a DHCP client, and is told its address by that. Raises NotFoundError for an unknown
        network, ConflictError for an address that is taken or a network that is full, InvalidRequestError for one
        outside the network.
        """
        mtu = int(wanted.get("mtu") or 0)
        parent = wanted.get("network") or wanted.get("parent") or ""
        kind = wanted.get("nictype", "bridged")
        if "network" in wanted:
            self._found(parent)
        if kind == "bridged" and parent in self._records:
            return await self._attach_managed(instance, device, wanted, hwaddr, asks=asks)
        await self.detach(instance, device)
        if pinned := [key for key in ("ipv4.address", "ipv6.address") if wanted.get(key)]:
            raise InvalidRequestError(f'Cannot use {pinned[0]} of device "{device}": it is on no managed network')
        if kind == "p2p":
            return Nic("veth", "", hwaddr, mtu)
        interfaces = {interface.usage.name: interface for interface in await self.interfaces()}
        if parent not in interfaces:
            raise NotFoundError(f'Cannot attach device "{device}": the host has no interface "{parent}"')
        if kind == "bridged" and interfaces[parent].driver != "bridge":
            raise InvalidRequestError(f'Cannot attach device "{device}": interface "{parent}" is no bridge')
        return Nic({"bridged": "veth", "macvlan": "macvlan", "physical": "phys"}[kind], parent, hwaddr, mtu)

    async def _attach_managed(
        self, instance: str, device: str, wanted: Mapping[str, str], hwaddr: str, *, asks: bool
    ) -> Nic:
        name = wanted.get("network") or wanted["parent"]
        resolver = lease = None
        async with self._changing:
            settings = self._found(name)
            await self._host.ensure_bridge(settings.bridge)
            pinned = wanted.get("ipv4.address", "")
            if settings.ipv4 is not None and (pinned or settings.served.ipv4_dhcp):
                lease = await self._lease(settings, instance, device, pinned, hwaddr)
            else:
                if pinned:
                    raise InvalidRequestError(f'Cannot use ipv4.address "{pinned}": network "{name}" has no IPv4')
                await self._drop(instance, device)
            if await self._is_served(settings):
                resolver = _resolver(settings, project_of(instance))
        addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface] = []
        gateways: list[str] = []
        if lease is not None and settings.ipv4 is not None and not asks:
            addresses.append(ipaddress.IPv4Interface(f"{lease.address}/{settings.ipv4.network.prefixlen}"))
            gateways.append(str(settings.ipv4.ip))
        if own := wanted.get("ipv6.address"):
            # Its gateway is told by router advertisements, which the kernel follows by itself.
            addresses.append(_own_ipv6(settings, own, asks=asks))
        return Nic(
            "veth",
            name,
            hwaddr,
            int(wanted.get("mtu") or settings.bridge.mtu),
            tuple(addresses),
            tuple(gateways),
            resolver,
        )

    async def detach(self, instance: str, device: str) -> None:
        """Take back what a NIC device was given."""
        if self._leases.find(instance, device) is not None:
            async with self._changing:
                await self._drop(instance, device)

    async def plug(self, link: LinkSpec, init_pid: int) -> None:
        """As NetworkHost.plug."""
        await self._host.plug(link, init_pid)

    async def unplug(self, link: LinkSpec, init_pid: int) -> None:
        """As NetworkHost.unplug."""
        await self._host.unplug(link, init_pid)

    async def remove_link(self, name: str) -> None:
        """Remove the host's end of a veth that a dead container left."""
        await self._host.remove_link(name)

    async def rename_instance(self, instance: str, new_name: str) -> None:
        """The leases of an instance that was renamed are those of its new name (the database renamed them with it)."""
        for former, lease in self._leases.rename(instance, new_name):
            try:
                await self._servers.remove(lease.network, _host(former))
                await self._servers.add(lease.network, _host(lease))
            except LxdpyError as exc:
                logger.error("%s", exc)

    def forget(self, instance: str) -> list[LeaseRecord]:
        """Drop the leases of an instance that was deleted (the database dropped them with it); `withdraw` is due."""
        return self._leases.forget(instance)

    async def withdraw(self, leases: Iterable[LeaseRecord]) -> None:
        """Serve no more what was forgotten."""
        for lease in leases:
            async with self._changing:
                if not self._leases.is_taken(lease.network, lease.address):
                    await self._servers.remove(lease.network, _host(lease))

    async def _lease(self, settings: Settings, instance: str, device: str, pinned: str, hwaddr: str) -> LeaseRecord:
        """A device's lease, which the network's server knows, if it runs."""
        former = self._leases.find(instance, device)
        lease = await self._leases.give(settings, instance, device, pinned, hwaddr)
        if lease is not former:
            if former is not None and (former.network, former.address) != (lease.network, lease.address):
                await self._servers.remove(former.network, _host(former))
            await self._servers.add(lease.network, _host(lease))
        return lease

    async def _drop(self, instance: str, device: str) -> None:
        if (lease := await self._leases.drop(instance, device)) is not None:
            await self._servers.remove(lease.network, _host(lease))

    async def _is_served(self, settings: Settings) -> bool:
        """Have a network served. Whether that works: containers with addresses of their own run without."""
        if not settings.is_served:
            return False
        name = settings.bridge.name
        try:
            await self._servers.serve(settings.served, lambda: [_host(lease) for lease in self._leases.of(name)])
        except LxdpyError as exc:
            logger.error("%s", exc)
            return False
        return True

    # ---- helpers

    def _keep(self, record: NetworkRecord) -> None:
        self._settings[record.name] = rules.parse(record.name, record.config)
        self._records[record.name] = record

    def _parse(self, record: NetworkRecord) -> Settings:
        """A network's settings. Raises ConflictError when another managed one, be it made or not, overlaps it, and what
        `settings.parse` does."""
        settings = rules.parse(record.name, record.config)
        for name, other in self._settings.items():
            if name != record.name and (both := settings.overlap(other)):
                raise ConflictError(
                    f'Cannot set up network "{record.name}": {both[0]} overlaps {both[1]} of network "{name}"'
                )
        return settings

    def _taken(self, interfaces: Iterable[HostInterface]) -> list[ipaddress.IPv4Network]:
        """The IPv4 networks that the host is on, or will be."""
        return _networks(interfaces) + [entry.ipv4.network for entry in self._settings.values() if entry.ipv4]

    def _found(self, name: str) -> Settings:
        try:
            return self._settings[name]
        except KeyError:
            raise NotFoundError(f'Network "{name}" not found') from None

    def _used(self) -> dict[str, set[str]]:
        used: dict[str, set[str]] = {}
        for users in self._users:
            for path, devices in users():
                for device in devices.values():
                    if device.get("type") == "nic" and (name := device.get("network") or device.get("parent")):
                        used.setdefault(name, set()).add(path)
        return used

    @staticmethod
    def _view(record: NetworkRecord, used: Mapping[str, set[str]]) -> Network:
        return Network(record.name, record.description, record.config, tuple(sorted(used.get(record.name, ()))))


def _host(lease: LeaseRecord) -> ServedHost:
    return ServedHost(lease.hwaddr, lease.address, dns_name(lease.instance))


def _resolver(settings: Settings, project: str) -> Resolver | None:
    gateway = settings.ipv4 or settings.ipv6
    if gateway is None or settings.served.dns == "none":
        return None
    domains = (settings.served.search or settings.served.domain).split(",")
    if project != DEFAULT:
        # The project's own instances come first.
        domains.insert(0, f"{project}.{settings.served.domain}")
    return Resolver(str(gateway.ip), tuple(domains))


def _own_ipv6(settings: Settings, text: str, *, asks: bool) -> ipaddress.IPv6Interface:
    name = settings.bridge.name
    if asks:
        raise UnsupportedError(f'Cannot use ipv6.address "{text}": addresses are not given by DHCPv6')
    if settings.ipv6 is None or ipaddress.IPv6Address(text) not in settings.ipv6.network:
        raise InvalidRequestError(f'Cannot use ipv6.address "{text}": network "{name}" has no such address')
    return ipaddress.IPv6Interface(f"{text}/{settings.ipv6.network.prefixlen}")


def _networks(interfaces: Iterable[HostInterface]) -> list[ipaddress.IPv4Network]:
    """The IPv4 networks that the host is on."""
    return [
        ipaddress.IPv4Interface(f"{address.address}/{address.prefix}").network
        for interface in interfaces
        for address in interface.usage.addresses
        if address.family == "inet"
    ]
