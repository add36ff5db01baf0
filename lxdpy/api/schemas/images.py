"""Images on the wire: LXD's fields, and the ancestry extension."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lxdpy.api.schemas.instances import InstanceSource
from lxdpy.api.schemas.times import NEVER, ZERO, rfc3339, seconds
from lxdpy.db.images import AliasRecord, ImageRecord
from lxdpy.errors import UnsupportedError
from lxdpy.services import compression
from lxdpy.services.images import AncestryEntry, ImageDetails, ImageSettings
from lxdpy.services.instances import Publication


class ImageAlias(BaseModel):
    """A name of an image, as part of it."""

    name: str
    description: str = ""


class ImagesPostSource(InstanceSource):
    """Where an image comes from."""

    type: str = Field(
        "image", description='"image": of a registry or an image server; "instance" or "snapshot": it is made here'
    )
    name: str | None = Field(None, description="the instance, or INSTANCE/SNAPSHOT")


class ImagesPost(BaseModel):
    """An image to fetch, or to make of an instance."""

    model_config = ConfigDict(extra="ignore")

    source: ImagesPostSource = Field(
        description='protocol "oci"; alias: the image reference. Or "simplestreams"; server; alias or fingerprint'
    )
    filename: str | None = None
    public: bool | None = None
    auto_update: bool | None = None
    properties: dict[str, str] | None = Field(None, description="absent: those of the instance's image")
    expires_at: str | None = Field(None, description="RFC 3339; 0001-01-01T00:00:00Z is as the instance's image")
    profiles: list[str] | None = None
    aliases: list[ImageAlias] | None = None
    compression_algorithm: str | None = Field(None, description="gzip, xz, bzip2, zstd, lzma, none, squashfs; -LEVEL")
    format: str | None = Field(None, description='"unified", or absent')


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


class ImageAliasPut(BaseModel):
    """All that can be changed of a name."""

    model_config = ConfigDict(extra="ignore")

    description: str | None = None
    target: str = Field(description="fingerprint, or a prefix of it")


class ImageAliasPatch(BaseModel):
    """What is to be changed of a name."""

    model_config = ConfigDict(extra="ignore")

    description: str | None = None
    target: str | None = Field(default=None, description="fingerprint, or a prefix of it")


class ImageAliasPost(BaseModel):
    """A name's new name."""

    model_config = ConfigDict(extra="ignore")

    name: str


class ImagePut(BaseModel):
    """All that can be changed of an image; what is absent is false or empty."""

    model_config = ConfigDict(extra="ignore")

    public: bool | None = None
    auto_update: bool | None = None
    properties: dict[str, str] | None = None
    expires_at: str | None = Field(default=None, description="RFC 3339; 0001-01-01T00:00:00Z is never")
    profiles: list[str] | None = None


class ImagePatch(ImagePut):
    """What is to be changed of an image; properties are merged."""


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


def details(body: ImagesPost) -> ImageDetails:
    """What a client wants a new image to be. Raises InvalidRequestError."""
    return ImageDetails(
        filename=(body.filename or "")[:255],
        public=bool(body.public),
        auto_update=bool(body.auto_update),
        properties=body.properties or {},
        expires_at=(seconds(body.expires_at) if body.expires_at else 0.0) or None,
        profiles=tuple(body.profiles) if body.profiles else ("default",),
        aliases={alias.name: alias.description for alias in body.aliases or []},
    )


def publication(body: ImagesPost, name: str, default_compression: str) -> Publication:
    """What is to be published. Raises InvalidRequestError, UnsupportedError."""
    if body.format not in (None, "", "unified"):
        raise UnsupportedError(f'Cannot publish in format "{body.format:.100}": only "unified" is supported')
    return Publication(
        name=name,
        is_snapshot=body.source.type == "snapshot",
        details=details(body),
        compression=compression.parse(body.compression_algorithm or default_compression),
    )


def replaced(body: ImagePut) -> ImageSettings:
    """What a PUT asks for. Raises InvalidRequestError."""
    return ImageSettings(
        public=bool(body.public),
        auto_update=bool(body.auto_update),
        properties=body.properties or {},
        expires_at=seconds(body.expires_at) if body.expires_at else 0.0,
        profiles=tuple(body.profiles) if body.profiles is not None else ("default",),
    )


def patched(body: ImagePatch, image: ImageRecord) -> ImageSettings:
    """What a PATCH asks for. Raises InvalidRequestError."""
    return ImageSettings(
        public=image.public if body.public is None else body.public,
        auto_update=image.auto_update if body.auto_update is None else body.auto_update,
        properties={**image.properties, **(body.properties or {})},
        expires_at=image.expires_at if body.expires_at is None else seconds(body.expires_at),
        profiles=image.profiles if body.profiles is None else tuple(body.profiles),
    )


def writable(image: ImageRecord) -> dict[str, object]:
    """The part that ETags cover: what clients may change."""
    return {
        "public": image.public,
        "auto_update": image.auto_update,
        "properties": dict(image.properties),
        "expires_at": image.expires_at,
        "profiles": list(image.profiles),
    }


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
        "expires_at": rfc3339(image.expires_at) if image.expires_at else NEVER,
        "filename": image.filename,
        "last_used_at": rfc3339(image.last_used_at) if image.last_used_at else ZERO,
        "profiles": list(image.profiles),
        "properties": image.properties,
        "public": image.public,
        "size": image.size,
        "uploaded_at": rfc3339(image.uploaded_at),
    }
    if image.protocol:
        body["update_source"] = {
            "alias": image.reference,
            "certificate": image.certificate,
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
