"""Images and their aliases."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One pulled image."""

    fingerprint: str
    config_digest: Digest
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

    @property
    def manifest_digest(self) -> Digest:
        """Digest of its manifest."""
        return Digest("sha256", self.fingerprint)


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """A name of an image."""

    name: str
    fingerprint: str
    description: str


def load(connection: sqlite3.Connection) -> list[ImageRecord]:
    """Every image."""
    return [
        ImageRecord(
            fingerprint=row["fingerprint"],
            config_digest=Digest.parse(row["config_digest"]),
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
        )
        for row in connection.execute("SELECT * FROM images")
    ]


def load_aliases(connection: sqlite3.Connection) -> list[AliasRecord]:
    """Every alias."""
    return [
        AliasRecord(row["name"], row["fingerprint"], row["description"])
        for row in connection.execute("SELECT * FROM image_aliases")
    ]


def put(connection: sqlite3.Connection, image: ImageRecord) -> None:
    """Insert or replace an image."""
    connection.execute(
        """
        INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (fingerprint) DO UPDATE SET
            config_digest = excluded.config_digest, index_digest = excluded.index_digest,
            reference = excluded.reference, server = excluded.server, architecture = excluded.architecture,
            size = excluded.size, created_at = excluded.created_at, uploaded_at = excluded.uploaded_at,
            last_used_at = excluded.last_used_at, properties = excluded.properties, layers = excluded.layers,
            blobs = excluded.blobs
        """,
        (
            image.fingerprint,
            str(image.config_digest),
            str(image.index_digest) if image.index_digest else None,
            image.reference,
            image.server,
            image.architecture,
            image.size,
            image.created_at,
            image.uploaded_at,
            image.last_used_at,
            json.dumps(dict(image.properties)),
            json.dumps(image.layers),
            json.dumps([str(digest) for digest in image.blobs]),
        ),
    )


def delete(connection: sqlite3.Connection, fingerprint: str) -> None:
    """Delete an image and its aliases."""
    connection.execute("DELETE FROM images WHERE fingerprint = ?", (fingerprint,))


def put_alias(connection: sqlite3.Connection, alias: AliasRecord) -> None:
    """Insert an alias or point it elsewhere."""
    connection.execute(
        """
        INSERT INTO image_aliases VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, description = excluded.description
        """,
        (alias.name, alias.fingerprint, alias.description),
    )


def put_with_alias(connection: sqlite3.Connection, image: ImageRecord, alias: AliasRecord) -> None:
    """Insert or replace an image and one of its names."""
    put(connection, image)
    put_alias(connection, alias)


def delete_alias(connection: sqlite3.Connection, name: str) -> None:
    """Delete an alias."""
    connection.execute("DELETE FROM image_aliases WHERE name = ?", (name,))
