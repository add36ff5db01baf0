"""Managed networks, as clients wrote them."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network; what `config` means: services/networks/settings.py."""

    name: str
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


def load(connection: sqlite3.Connection) -> list[NetworkRecord]:
    """Every network."""
    rows = connection.execute("SELECT name, description, config FROM networks")
    return [NetworkRecord(name, description, json.loads(config)) for name, description, config in rows]


def put(connection: sqlite3.Connection, network: NetworkRecord) -> None:
    """Insert a network, or replace it."""
    connection.execute(
        "INSERT INTO networks VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "description = excluded.description, config = excluded.config",
        (network.name, network.description, json.dumps(network.config)),
    )


def rename(connection: sqlite3.Connection, name: str, new_name: str) -> None:
    """Give a network another name."""
    connection.execute("UPDATE networks SET name = ? WHERE name = ?", (new_name, name))


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Delete a network."""
    connection.execute("DELETE FROM networks WHERE name = ?", (name,))
