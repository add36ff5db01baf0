"""Instances."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lxdpy.oci.digest import Digest
from lxdpy.project import split

Devices = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One instance as it was asked for; what it inherits from image and profiles is computed."""

    name: str
    """Unique on this host; `lxdpy.project` says how the project is part of it."""
    architecture: str
    description: str
    ephemeral: bool
    config: Mapping[str, str]
    devices: Devices
    profiles: tuple[str, ...]
    created_at: float
    last_used_at: float
    """0: never started."""
    fingerprint: str
    config_digest: Digest | None
    """What its image says to run; None: a system, which runs its own init."""
    layers: tuple[str, ...]
    """Base first."""
    blobs: tuple[Digest, ...]
    rw: str
    """Name of its writable layer, a directory in its own: `rw-HEX`, or `rw` as earlier versions made it."""

    @property
    def project(self) -> str:
        """The project it is in."""
        return split(self.name)[0]

    @property
    def plain_name(self) -> str:
        """Its name within its project: what clients and the instance itself see."""
        return split(self.name)[1]

    @property
    def manifest_digest(self) -> Digest:
        """Digest of its (OCI) image's manifest."""
        return Digest("sha256", self.fingerprint)


def load(connection: sqlite3.Connection) -> list[InstanceRecord]:
    """Every instance."""
    return [from_row(row) for row in connection.execute("SELECT * FROM instances")]


def from_row(row: Mapping[str, Any] | sqlite3.Row) -> InstanceRecord:
    """An instance from its columns: those of its row, or those that a snapshot kept."""
    return InstanceRecord(
        name=row["name"],
        architecture=row["architecture"],
        description=row["description"],
        ephemeral=bool(row["ephemeral"]),
        config=json.loads(row["config"]),
        devices=json.loads(row["devices"]),
        profiles=tuple(json.loads(row["profiles"])),
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        fingerprint=row["fingerprint"],
        config_digest=Digest.parse(row["config_digest"]) if row["config_digest"] else None,
        layers=tuple(json.loads(row["layers"])),
        blobs=tuple(Digest.parse(text) for text in json.loads(row["blobs"])),
        rw=row["rw"],
    )


def to_row(instance: InstanceRecord) -> dict[str, str | int | float]:
    """An instance as its columns."""
    return {
        "name": instance.name,
        "architecture": instance.architecture,
        "description": instance.description,
        "ephemeral": int(instance.ephemeral),
        "config": json.dumps(dict(instance.config)),
        "devices": json.dumps({name: dict(device) for name, device in instance.devices.items()}),
        "profiles": json.dumps(instance.profiles),
        "created_at": instance.created_at,
        "last_used_at": instance.last_used_at,
        "fingerprint": instance.fingerprint,
        "config_digest": str(instance.config_digest) if instance.config_digest else "",
        "layers": json.dumps(instance.layers),
        "blobs": json.dumps([str(digest) for digest in instance.blobs]),
        "rw": instance.rw,
    }


def put(connection: sqlite3.Connection, instance: InstanceRecord) -> None:
    """Insert an instance or replace it."""
    row = to_row(instance)
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "name")
    connection.execute(
        f"INSERT INTO instances ({names}) VALUES ({values}) ON CONFLICT (name) DO UPDATE SET {changes}", row
    )


def rename(connection: sqlite3.Connection, name: str, new_name: str) -> None:
    """Give an instance, with its leases and snapshots, another name. Raises sqlite3.IntegrityError when it is taken."""
    connection.execute("UPDATE instances SET name = ? WHERE name = ?", (new_name, name))


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Delete an instance with its leases and snapshots."""
    connection.execute("DELETE FROM instances WHERE name = ?", (name,))
