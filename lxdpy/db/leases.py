"""Addresses on managed networks, and whose they are."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """An IPv4 address on `network` that belongs to a NIC device of an instance."""

    network: str
    address: str
    instance: str
    device: str
    hwaddr: str


def load(connection: sqlite3.Connection) -> list[LeaseRecord]:
    """Every lease."""
    return [
        LeaseRecord(*row) for row in connection.execute("SELECT network, address, instance, device, hwaddr FROM leases")
    ]


def put(connection: sqlite3.Connection, lease: LeaseRecord) -> None:
    """Insert a lease. Raises sqlite3.IntegrityError when the address is taken."""
    connection.execute(
        "INSERT INTO leases VALUES (?, ?, ?, ?, ?)",
        (lease.network, lease.address, lease.instance, lease.device, lease.hwaddr),
    )


def delete(connection: sqlite3.Connection, instance: str, device: str) -> None:
    """Delete the lease of one device."""
    connection.execute("DELETE FROM leases WHERE instance = ? AND device = ?", (instance, device))
