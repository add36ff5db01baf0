"""Profiles."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxdpy.db.instances import Devices


@dataclass(frozen=True, slots=True)
class ProfileRecord:
    """A named set of configuration and devices, of a project."""

    project: str
    name: str
    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)


def load(connection: sqlite3.Connection) -> list[ProfileRecord]:
    """Every profile of every project."""
    return [
        ProfileRecord(
            row["project"], row["name"], row["description"], json.loads(row["config"]), json.loads(row["devices"])
        )
        for row in connection.execute("SELECT * FROM profiles")
    ]


def put(connection: sqlite3.Connection, profile: ProfileRecord) -> None:
    """Insert a profile or replace it."""
    connection.execute(
        """
        INSERT INTO profiles VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (project, name) DO UPDATE SET
            description = excluded.description, config = excluded.config, devices = excluded.devices
        """,
        (
            profile.project,
            profile.name,
            profile.description,
            json.dumps(dict(profile.config)),
            json.dumps({name: dict(device) for name, device in profile.devices.items()}),
        ),
    )


def delete(connection: sqlite3.Connection, project: str, name: str) -> None:
    """Delete a profile."""
    connection.execute("DELETE FROM profiles WHERE project = ? AND name = ?", (project, name))
