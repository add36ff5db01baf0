"""Images and their aliases."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lxdpy.oci.digest import Digest
from lxdpy.project import DEFAULT


class ImageKind(StrEnum):
    """What an image is on disk."""

    OCI = "oci"
    """A stack of layers and a config, from a registry."""
    LXD = "lxd"
    """A root file system, metadata.yaml and templates, from one file or two."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image."""

    fingerprint: str
    config_digest: Digest | None
    """What it runs; None: its root file system has an init."""
    index_digest: Digest | None
    reference: str
    server: str
    architecture: str
    size: int
    created_at: float
    uploaded_at: float
    last_used_at: float
    properties: Mapping[str, str]
    layers: tuple[str, ...]
    blobs: tuple[Digest, ...]
    """Of an LXD image first its file, or its metadata file and the file of its root file system, as they came."""
    kind: ImageKind = ImageKind.OCI
    protocol: str = "oci"
    """By which it came, with `server` and `reference`; "" when a client brought it."""
    filename: str = ""
    public: bool = False
    auto_update: bool = False
    cached: bool = False
    """Fetched because an instance wanted it, and not asked for by itself."""
    expires_at: float = 0.0
    """0: never."""
    profiles: tuple[str, ...] = ("default",)
    certificate: str = ""
    """PEM, by which `server` is trusted; "": by the system's."""
    projects: tuple[str, ...] = (DEFAULT,)
    """Those that have it, each with aliases of its own; everything else of it is the same for all."""

    @property
    def manifest_digest(self) -> Digest:
        """Digest of its manifest (of an OCI image)."""
        return Digest("sha256", self.fingerprint)


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """A name of an image, in a project."""

    name: str
    fingerprint: str
    description: str
    project: str = DEFAULT


def load(connection: sqlite3.Connection) -> list[ImageRecord]:
    """Every image."""
    return [
        ImageRecord(
            fingerprint=row["fingerprint"],
            config_digest=Digest.parse(row["config_digest"]) if row["config_digest"] else None,
            index_digest=Digest.parse(row["index_digest"]) if row["index_digest"] else None,
            reference=row["reference"],
            server=row["server"],
            architecture=row["architecture"],
            size=row["size"],
            created_at=row["created_at"],
            uploaded_at=row["uploaded_at"],
            last_used_at=row["last_used_at"],
            properties=json.loads(row["properties"]),
            layers=tuple(json.loads(row["layers"])),
            blobs=tuple(Digest.parse(text) for text in json.loads(row["blobs"])),
            kind=ImageKind(row["kind"]),
            protocol=row["protocol"],
            filename=row["filename"],
            public=bool(row["public"]),
            auto_update=bool(row["auto_update"]),
            cached=bool(row["cached"]),
            expires_at=row["expires_at"],
            profiles=tuple(json.loads(row["profiles"])),
            certificate=row["certificate"],
            projects=tuple(json.loads(row["projects"])),
        )
        for row in connection.execute("SELECT * FROM images")
    ]


def load_aliases(connection: sqlite3.Connection) -> list[AliasRecord]:
    """Every alias."""
    return [
        AliasRecord(row["name"], row["fingerprint"], row["description"], row["project"])
        for row in connection.execute("SELECT * FROM image_aliases")
    ]


def put(connection: sqlite3.Connection, image: ImageRecord) -> None:
    """Insert or replace an image."""
    row: dict[str, str | int | float | None] = {
        "fingerprint": image.fingerprint,
        # The column is older than images without a config.
        "config_digest": str(image.config_digest) if image.config_digest else "",
        "index_digest": str(image.index_digest) if image.index_digest else None,
        "reference": image.reference,
        "server": image.server,
        "architecture": image.architecture,
        "size": image.size,
        "created_at": image.created_at,
        "uploaded_at": image.uploaded_at,
        "last_used_at": image.last_used_at,
        "properties": json.dumps(dict(image.properties)),
        "layers": json.dumps(image.layers),
        "blobs": json.dumps([str(digest) for digest in image.blobs]),
        "kind": image.kind,
        "protocol": image.protocol,
        "filename": image.filename,
        "public": int(image.public),
        "auto_update": int(image.auto_update),
        "cached": int(image.cached),
        "expires_at": image.expires_at,
        "profiles": json.dumps(image.profiles),
        "certificate": image.certificate,
        "projects": json.dumps(image.projects),
    }
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "fingerprint")
    connection.execute(
        f"INSERT INTO images ({names}) VALUES ({values}) ON CONFLICT (fingerprint) DO UPDATE SET {changes}", row
    )


def delete(connection: sqlite3.Connection, fingerprint: str) -> None:
    """Delete an image and its aliases."""
    connection.execute("DELETE FROM images WHERE fingerprint = ?", (fingerprint,))


def put_alias(connection: sqlite3.Connection, alias: AliasRecord) -> None:
    """Insert an alias or point it elsewhere."""
    connection.execute(
        """
        INSERT INTO image_aliases (project, name, fingerprint, description) VALUES (?, ?, ?, ?)
        ON CONFLICT (project, name) DO UPDATE SET
            fingerprint = excluded.fingerprint, description = excluded.description
        """,
        (alias.project, alias.name, alias.fingerprint, alias.description),
    )


def put_with_alias(connection: sqlite3.Connection, image: ImageRecord, alias: AliasRecord) -> None:
    """Insert or replace an image and one of its names."""
    put(connection, image)
    put_alias(connection, alias)


def put_with_aliases(connection: sqlite3.Connection, image: ImageRecord, aliases: Sequence[AliasRecord]) -> None:
    """Insert or replace an image and some of its names."""
    put(connection, image)
    for alias in aliases:
        put_alias(connection, alias)


def rename_alias(connection: sqlite3.Connection, project: str, name: str, new_name: str) -> None:
    """Give an alias another name."""
    connection.execute("UPDATE image_aliases SET name = ? WHERE project = ? AND name = ?", (new_name, project, name))


def delete_alias(connection: sqlite3.Connection, project: str, name: str) -> None:
    """Delete an alias."""
    connection.execute("DELETE FROM image_aliases WHERE project = ? AND name = ?", (project, name))


def withdraw(connection: sqlite3.Connection, image: ImageRecord, project: str) -> None:
    """Write an image that is in `project` no more, and delete its aliases there."""
    put(connection, image)
    connection.execute("DELETE FROM image_aliases WHERE project = ? AND fingerprint = ?", (project, image.fingerprint))
