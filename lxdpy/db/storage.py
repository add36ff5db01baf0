"""Storage pools, their custom volumes, and snapshots of those."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A storage pool."""

    name: str
    driver: str
    description: str
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """A custom volume; a name is one volume's in a pool and a project."""

    pool: str
    project: str
    name: str
    description: str
    config: Mapping[str, str]
    created_at: float
    directory: str
    """Name of the directory that its files are in; a volume that is renamed keeps it."""


@dataclass(frozen=True, slots=True)
class VolumeSnapshotRecord:
    """A snapshot of a custom volume."""

    pool: str
    project: str
    volume: str
    name: str
    description: str
    config: Mapping[str, str]
    created_at: float
    directory: str
    expires_at: float
    """0: never."""


@dataclass(frozen=True, slots=True)
class VolumeBackupRecord:
    """A file that a custom volume was packed into."""

    pool: str
    project: str
    volume: str
    name: str
    created_at: float
    expires_at: float
    """0: never."""
    volume_only: bool
    """Without its snapshots."""
    file: str
    """Its name among backups."""


def load_pools(connection: sqlite3.Connection) -> list[PoolRecord]:
    """Every pool."""
    rows = connection.execute("SELECT name, driver, description, config FROM storage_pools")
    return [PoolRecord(row[0], row[1], row[2], json.loads(row[3])) for row in rows]


def put_pool(connection: sqlite3.Connection, pool: PoolRecord) -> None:
    """Insert a pool or replace it."""
    connection.execute(
        """
        INSERT INTO storage_pools VALUES (?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET description = excluded.description, config = excluded.config
        """,
        (pool.name, pool.driver, pool.description, json.dumps(dict(pool.config))),
    )


def delete_pool(connection: sqlite3.Connection, name: str) -> None:
    """Delete a pool that has no volumes."""
    connection.execute("DELETE FROM storage_pools WHERE name = ?", (name,))


def load_volumes(connection: sqlite3.Connection) -> list[VolumeRecord]:
    """Every custom volume."""
    rows = connection.execute(
        "SELECT pool, project, name, description, config, created_at, directory FROM storage_volumes"
    )
    return [VolumeRecord(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5], row[6]) for row in rows]


def put_volume(connection: sqlite3.Connection, volume: VolumeRecord) -> None:
    """Insert a volume or replace it."""
    connection.execute(
        """
        INSERT INTO storage_volumes (pool, project, name, description, config, created_at, directory)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (pool, project, name) DO UPDATE SET
            description = excluded.description, config = excluded.config, directory = excluded.directory
        """,
        (
            volume.pool,
            volume.project,
            volume.name,
            volume.description,
            json.dumps(dict(volume.config)),
            volume.created_at,
            volume.directory,
        ),
    )


def rename_volume(connection: sqlite3.Connection, volume: VolumeRecord, name: str) -> None:
    """Give a volume another name; its snapshots follow."""
    connection.execute(
        "UPDATE storage_volumes SET name = ? WHERE pool = ? AND project = ? AND name = ?",
        (name, volume.pool, volume.project, volume.name),
    )


def delete_volume(connection: sqlite3.Connection, volume: VolumeRecord) -> None:
    """Delete a volume and its snapshots."""
    connection.execute(
        "DELETE FROM storage_volumes WHERE pool = ? AND project = ? AND name = ?",
        (volume.pool, volume.project, volume.name),
    )


def load_snapshots(connection: sqlite3.Connection) -> list[VolumeSnapshotRecord]:
    """Every snapshot of a custom volume, oldest first."""
    rows = connection.execute(
        "SELECT pool, project, volume, name, description, config, created_at, directory, expires_at"
        " FROM storage_volume_snapshots ORDER BY created_at, name"
    )
    return [
        VolumeSnapshotRecord(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6], row[7], row[8])
        for row in rows
    ]


def put_snapshot(connection: sqlite3.Connection, snapshot: VolumeSnapshotRecord) -> None:
    """Insert a snapshot or replace what may be written of it."""
    connection.execute(
        """
        INSERT INTO storage_volume_snapshots
            (pool, project, volume, name, description, config, created_at, directory, expires_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (pool, project, volume, name) DO UPDATE SET
            description = excluded.description, config = excluded.config, expires_at = excluded.expires_at
        """,
        (
            snapshot.pool,
            snapshot.project,
            snapshot.volume,
            snapshot.name,
            snapshot.description,
            json.dumps(dict(snapshot.config)),
            snapshot.created_at,
            snapshot.directory,
            snapshot.expires_at,
        ),
    )


def rename_snapshot(connection: sqlite3.Connection, snapshot: VolumeSnapshotRecord, name: str) -> None:
    """Give a snapshot another name."""
    connection.execute(
        "UPDATE storage_volume_snapshots SET name = ? WHERE pool = ? AND project = ? AND volume = ? AND name = ?",
        (name, snapshot.pool, snapshot.project, snapshot.volume, snapshot.name),
    )


def delete_snapshot(connection: sqlite3.Connection, snapshot: VolumeSnapshotRecord) -> None:
    """Delete a snapshot."""
    connection.execute(
        "DELETE FROM storage_volume_snapshots WHERE pool = ? AND project = ? AND volume = ? AND name = ?",
        (snapshot.pool, snapshot.project, snapshot.volume, snapshot.name),
    )


def load_backups(connection: sqlite3.Connection) -> list[VolumeBackupRecord]:
    """Every backup of a custom volume, oldest first."""
    rows = connection.execute(
        "SELECT pool, project, volume, name, created_at, expires_at, volume_only, file"
        " FROM storage_volume_backups ORDER BY created_at, rowid"
    )
    return [VolumeBackupRecord(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]), row[7]) for row in rows]


def put_backup(connection: sqlite3.Connection, backup: VolumeBackupRecord) -> None:
    """Insert a backup."""
    connection.execute(
        "INSERT INTO storage_volume_backups"
        " (pool, project, volume, name, created_at, expires_at, volume_only, file) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            backup.pool,
            backup.project,
            backup.volume,
            backup.name,
            backup.created_at,
            backup.expires_at,
            int(backup.volume_only),
            backup.file,
        ),
    )


def rename_backup(connection: sqlite3.Connection, backup: VolumeBackupRecord, name: str) -> None:
    """Give a backup another name."""
    connection.execute("UPDATE storage_volume_backups SET name = ? WHERE file = ?", (name, backup.file))


def delete_backup(connection: sqlite3.Connection, backup: VolumeBackupRecord) -> None:
    """Delete a backup."""
    connection.execute("DELETE FROM storage_volume_backups WHERE file = ?", (backup.file,))
