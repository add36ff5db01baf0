"""Snapshots of instances."""

import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Self

from lxdpy.db import instances
from lxdpy.db.instances import InstanceRecord


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """An instance as it was at one moment."""

    instance: str
    name: str
    created_at: float
    expires_at: float
    """0: never."""
    taken: InstanceRecord
    """Its layers are the whole of its root file system; it has no `rw`, and its name is always the instance's."""

    def of(self, instance: str) -> Self:
        """The same snapshot of an instance by another name."""
        return replace(self, instance=instance, taken=replace(self.taken, name=instance))


def load(connection: sqlite3.Connection) -> list[SnapshotRecord]:
    """Every snapshot, oldest first."""
    return [
        SnapshotRecord(
            row["instance"],
            row["name"],
            row["created_at"],
            row["expires_at"],
            # Renaming an instance renames the row alone.
            instances.from_row(json.loads(row["taken"]) | {"name": row["instance"]}),
        )
        for row in connection.execute("SELECT * FROM snapshots ORDER BY created_at, rowid")
    ]


def put(connection: sqlite3.Connection, snapshot: SnapshotRecord) -> None:
    """Insert a snapshot or replace it."""
    connection.execute(
        """
        INSERT INTO snapshots (instance, name, created_at, expires_at, taken) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (instance, name) DO UPDATE SET
            created_at = excluded.created_at, expires_at = excluded.expires_at, taken = excluded.taken
        """,
        (
            snapshot.instance,
            snapshot.name,
            snapshot.created_at,
            snapshot.expires_at,
            json.dumps(instances.to_row(snapshot.taken)),
        ),
    )


def delete(connection: sqlite3.Connection, instance: str, name: str) -> None:
    """Delete one snapshot."""
    connection.execute("DELETE FROM snapshots WHERE instance = ? AND name = ?", (instance, name))
