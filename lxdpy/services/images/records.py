"""The records of images: what pulling, fetching again and refreshing make of them. Those of images that come as files
are made in import_.py."""

import dataclasses
import time
from datetime import datetime

from lxdpy.db.images import ImageKind, ImageRecord
from lxdpy.drivers.base import ResolvedImage
from lxdpy.errors import InvalidRequestError
from lxdpy.oci.reference import Reference
from lxdpy.services import architectures
from lxdpy.services.images.import_ import ImageDetails, check_environment, check_properties
from lxdpy.services.images.source import ImageSource


def of_nothing() -> ImageRecord:
    """That of the image of an instance that is made of none."""
    return ImageRecord(
        fingerprint="",
        config_digest=None,
        index_digest=None,
        reference="",
        server="",
        architecture=architectures.of_host()[0],
        size=0,
        created_at=0.0,
        uploaded_at=0.0,
        last_used_at=0.0,
        properties={},
        layers=(),
        blobs=(),
    )


def check_pull(resolved: ResolvedImage, max_layers: int) -> None:
    """Refuse before the download what can't work after it. Raises InvalidRequestError."""
    count = len(resolved.manifest.layers)
    if count > max_layers:
        raise InvalidRequestError(
            f'Cannot pull image "{resolved.reference}": {count} layers, the limit is {max_layers}'
        )
    check_environment(f'pull image "{resolved.reference}"', resolved.config)


def pulled(resolved: ResolvedImage, layer_ids: tuple[str, ...], known: ImageRecord | None, project: str) -> ImageRecord:
    """The record of an image of a registry that a project pulls; `known` is that of one that is here already."""
    now = time.time()
    config = resolved.config
    blobs = [resolved.manifest_digest, resolved.manifest.config.digest]
    if resolved.index_digest is not None:
        blobs.append(resolved.index_digest)
    blobs += [layer.digest for layer in resolved.manifest.layers]
    architecture = architectures.OF_OCI.get(config.architecture, config.architecture)
    size = len(resolved.manifest_bytes) + len(resolved.config_bytes)
    return ImageRecord(
        fingerprint=resolved.manifest_digest.hex,
        config_digest=resolved.manifest.config.digest,
        index_digest=resolved.index_digest,
        reference=str(resolved.reference),
        server=resolved.endpoint,
        architecture=architecture,
        size=size + sum(layer.size for layer in resolved.manifest.layers),
        created_at=_seconds(config.created),
        uploaded_at=known.uploaded_at if known else now,
        last_used_at=known.last_used_at if known else 0.0,
        # What clients have changed of it stays.
        public=known.public if known else False,
        auto_update=known.auto_update if known else False,
        expires_at=known.expires_at if known else 0.0,
        profiles=known.profiles if known else ("default",),
        projects=tuple(dict.fromkeys((*(known.projects if known else ()), project))),
        properties=known.properties
        if known
        else {
            "architecture": architecture,
            "description": f"{resolved.reference.familiar} (OCI)",
            "id": resolved.reference.familiar,
            "os": config.os,
            "type": "oci",
        },
        layers=layer_ids,
        blobs=tuple(blobs),
    )


def names_of_pull(image: ImageRecord) -> list[str]:
    """What a pull names it by itself."""
    return [Reference.parse(image.reference).familiar] if image.kind is ImageKind.OCI and image.reference else []


def settled(image: ImageRecord, source: ImageSource | None, wanted: ImageDetails) -> ImageRecord:
    """An image that is here, as a client wants one that it asked for by itself. Raises InvalidRequestError."""
    check_properties(wanted.properties)
    new = dataclasses.replace(
        image,
        cached=False,
        public=image.public or wanted.public,
        auto_update=image.auto_update or wanted.auto_update,
        properties={**image.properties, **wanted.properties},
        expires_at=image.expires_at if wanted.expires_at is None else wanted.expires_at,
    )
    if source is not None and not image.protocol:
        # Brought by a client before; now it is known where it is to be had.
        new = dataclasses.replace(
            new,
            protocol=source.protocol,
            server=source.server.rstrip("/"),
            reference=source.name,
            certificate=source.certificate,
        )
    return new


def superseding(before: ImageRecord, after: ImageRecord) -> ImageRecord:
    """An image that takes the place of an older one, with the settings of that."""
    return dataclasses.replace(
        after,
        public=before.public,
        auto_update=before.auto_update,
        cached=before.cached and after.cached,
        profiles=before.profiles,
        last_used_at=max(before.last_used_at, after.last_used_at),
        projects=tuple(dict.fromkeys((*before.projects, *after.projects))),
    )


def _seconds(rfc3339: str) -> float:
    """The moment as seconds since the epoch; 0 for none or nonsense."""
    try:
        return datetime.fromisoformat(rfc3339[:19] + "+00:00").timestamp() if rfc3339 else 0.0
    except (ValueError, OverflowError):
        return 0.0
