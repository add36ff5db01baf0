"""Images on the wire: LXD's fields, and the ancestry extension."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lxdpy.api.schemas.instances import InstanceSource
from lxdpy.api.schemas.times import NEVER, ZERO, rfc3339
from lxdpy.db.images import AliasRecord, ImageRecord
from lxdpy.services.images import AncestryEntry


class ImagesPost(BaseModel):
    """An image to fetch."""

    model_config = ConfigDict(extra="ignore")

    source: InstanceSource = Field(description='protocol "oci"; alias: the image reference')


class ImageAlias(BaseModel):
    """A name of an image, as part of it."""

    name: str
    description: str


class ImageAliasesEntry(BaseModel):
    """A name of an image."""

    name: str
    description: str
    target: str
    type: Literal["container"]


class ImageAliasesPost(BaseModel):
    """A new name."""

    model_config = ConfigDict(extra="ignore")

    name: str
    description: str | None = None
    target: str = Field(description="fingerprint, or a prefix of it")


class ImageUpdateSource(BaseModel):
    """Where an image came from."""

    alias: str
    certificate: str
    image_type: Literal["container"]
    protocol: str
    server: str


class Image(BaseModel):
    """An image."""

    fingerprint: str
    type: Literal["container"]
    aliases: list[ImageAlias]
    architecture: str
    auto_update: bool
    cached: bool
    created_at: str
    expires_at: str
    filename: str
    last_used_at: str
    profiles: list[str]
    properties: dict[str, str]
    public: bool
    size: int
    update_source: ImageUpdateSource | None = Field(default=None, description="absent when a client brought the image")
    uploaded_at: str


class ImageAncestryEntry(BaseModel):
    """A layer of an image, and by its chain id the stack below it. Sizes in bytes."""

    chain_id: str
    diff_id: str
    digest: str
    size: int
    unpacked_size: int | None
    entries: int | None
    created: str
    created_by: str
    author: str
    comment: str


def render(image: ImageRecord, aliases: Sequence[AliasRecord]) -> dict[str, object]:
    """An image as clients read it."""
    body: dict[str, object] = {
        "fingerprint": image.fingerprint,
        "type": "container",
        "aliases": [{"name": alias.name, "description": alias.description} for alias in aliases],
        "architecture": image.architecture,
        "auto_update": image.auto_update,
        "cached": image.cached,
        "created_at": rfc3339(image.created_at) if image.created_at else NEVER,
        "expires_at": rfc3339(image.expires_at) if image.expires_at else ZERO,
        "filename": image.filename,
        "last_used_at": rfc3339(image.last_used_at) if image.last_used_at else NEVER,
        "profiles": list(image.profiles),
        "properties": image.properties,
        "public": image.public,
        "size": image.size,
        "uploaded_at": rfc3339(image.uploaded_at),
    }
    if image.protocol:
        body["update_source"] = {
            "alias": image.reference,
            "certificate": "",
            "image_type": "container",
            "protocol": image.protocol,
            "server": image.server,
        }
    return body


def render_alias(alias: AliasRecord) -> dict[str, object]:
    """An alias as clients read it."""
    return {"name": alias.name, "description": alias.description, "target": alias.fingerprint, "type": "container"}


def render_ancestry(entry: AncestryEntry) -> dict[str, object]:
    """One step of an ancestry as clients read it."""
    return {
        "chain_id": str(entry.chain_id),
        "diff_id": str(entry.diff_id),
        "digest": str(entry.digest),
        "size": entry.size_bytes,
        "unpacked_size": entry.layer.size_bytes if entry.layer else None,
        "entries": entry.layer.entries if entry.layer else None,
        "created": entry.history.created,
        "created_by": entry.history.created_by,
        "author": entry.history.author,
        "comment": entry.history.comment,
    }
