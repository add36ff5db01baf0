"""Images that come as files: what a client, or the server they were fetched from, says of them, and their record."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxdpy import image_metadata
from lxdpy.db.images import ImageKind, ImageRecord
from lxdpy.drivers.base import ImageFiles, StoredLayer
from lxdpy.errors import InvalidRequestError, NotFoundError
from lxdpy.image_metadata import ImageMetadata
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.project import DEFAULT

OCI_CONFIG = "oci.json"
"""Beside metadata.yaml: an OCI image config, when the image is an app and no system."""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What clients may change of an image."""

    public: bool = False
    auto_update: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    expires_at: float = 0.0
    profiles: tuple[str, ...] = ("default",)


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """What is to be known of an image beside what its files say."""

    fingerprint: str = ""
    """That it must have; "" for any."""
    filename: str = ""
    public: bool = False
    auto_update: bool = False
    cached: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    """These win over those in metadata.yaml."""
    expires_at: float | None = None
    """None: what metadata.yaml says."""
    profiles: tuple[str, ...] = ("default",)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """New names, with a description each."""
    protocol: str = ""
    server: str = ""
    reference: str = ""
    """By which, from where and as what it was fetched; all "" when a client brought it."""
    certificate: str = ""
    """PEM, by which the server is trusted."""
    project: str = DEFAULT
    """That is to have it."""


def record(
    files: ImageFiles,
    layer: StoredLayer,
    metadata: ImageMetadata,
    config_digest: Digest | None,
    details: ImageDetails,
) -> ImageRecord:
    """The record of an image that has just come."""
    blobs = [file.digest for file in files.all]
    if config_digest is not None:
        blobs.append(config_digest)
    return ImageRecord(
        fingerprint=files.fingerprint,
        config_digest=config_digest,
        index_digest=None,
        reference=details.reference,
        server=details.server,
        architecture=image_metadata.canonical_architecture(metadata.architecture),
        size=files.size,
        created_at=float(metadata.creation_date),
        uploaded_at=time.time(),
        last_used_at=0.0,
        properties={**metadata.properties, **details.properties},
        layers=(layer.id,),
        blobs=tuple(blobs),
        kind=ImageKind.LXD,
        protocol=details.protocol,
        filename=details.filename,
        public=details.public,
        auto_update=details.auto_update,
        cached=details.cached,
        expires_at=float(metadata.expiry_date) if details.expires_at is None else details.expires_at,
        profiles=details.profiles,
        certificate=details.certificate,
    )


def changed(image: ImageRecord, settings: ImageSettings) -> ImageRecord:
    """The record with what a client has changed. Raises InvalidRequestError."""
    check_properties(settings.properties)
    return dataclasses.replace(
        image,
        public=settings.public,
        auto_update=settings.auto_update,
        # `lxc image unset-property` sends an empty one.
        properties={key: value for key, value in settings.properties.items() if value},
        expires_at=settings.expires_at,
        profiles=settings.profiles,
    )


def check_properties(properties: Mapping[str, str]) -> None:
    """Properties become an instance's `image.*` keys. Raises InvalidRequestError for what no key or value can be."""
    for key, value in properties.items():
        if not key or "\0" in key + value or "\n" in key or "\r" in key:
            raise InvalidRequestError(f"Invalid image property {key!r:.100}: NUL or line break in it")


def check_environment(what: str, config: ImageConfig) -> None:
    """Raises InvalidRequestError for variables that no instance could be started with."""
    for entry in config.env:
        if "\n" in entry or "\r" in entry or "\0" in entry:
            raise InvalidRequestError(
                f"Cannot {what}: its environment variable {entry.partition('=')[0]!r:.80} has a line break or NUL in it"
            )


def read(directory: Path) -> tuple[ImageMetadata, bytes | None]:
    """What the store unpacked beside a root file system: metadata.yaml, and an app's config. Raises NotFoundError."""
    try:
        metadata = image_metadata.parse((directory / image_metadata.FILE).read_bytes())
    except OSError as exc:
        raise NotFoundError(f"Cannot read the metadata of an image: {exc}") from exc
    config = directory / OCI_CONFIG
    return metadata, config.read_bytes() if config.exists() else None
