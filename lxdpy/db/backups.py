"""Backups of instances."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """A file that an instance was packed into."""

    instance: str
    name: str
    created_at: float
    expires_at: float
    """0: never."""
    instance_only: bool
    """Without its snapshots."""
    file: str
    """Its name among backups."""


def load(connection: sqlite3.Connection) -> list[BackupRecord]:
    """Every backup, oldest first."""
    rows = connection.execute(
        "SELECT instance, name, created_at, expires_at, instance_only, file FROM instance_backups"
        " ORDER BY created_at, rowid"
    )
    return [BackupRecord(row[0], row[1], row[2], row[3], bool(row[4]), row[5]) for row in rows]


def put(connection: sqlite3.Connection, backup: BackupRecord) -> None:
    """Insert a backup."""
    connection.execute(
        "INSERT INTO instance_backups (instance, name, created_at, expires_at, instance_only, file)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            backup.instance,
            backup.name,
            backup.created_at,
            backup.expires_at,
            int(backup.instance_only),
            backup.file,
        ),
    )


def rename(connection: sqlite3.Connection, backup: BackupRecord, name: str) -> None:
    """Give a backup another name."""
    connection.execute("UPDATE instance_backups SET name = ? WHERE file = ?", (name, backup.file))


def delete(connection: sqlite3.Connection, backup: BackupRecord) -> None:
    """Delete a backup."""
    connection.execute("DELETE FROM instance_backups WHERE file = ?", (backup.file,))
