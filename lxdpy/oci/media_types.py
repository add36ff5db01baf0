"""Media types of image documents, docker's and OCI's, and how to tell which one a document is."""

from lxdpy.errors import RegistryError, UnsupportedError
from lxdpy.oci.document import Fields

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPTED = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)
"""What to ask a registry for."""

CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG, "", "application/octet-stream", "application/json", "text/html"})
"""Configs of container images; the last ones are what early registries made of docker's (distribution#1621)."""


def essence(media_type: str) -> str:
    """A media type without parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def of_document(document: Fields, declared: str | None) -> str:
    """Which of INDEXES or MANIFESTS a document is; `declared` is its Content-Type or its descriptor's media type.

    Raises RegistryError when the two disagree or the document may be read as either (CVE-2021-41190), and
    UnsupportedError for docker's schema 1.
    """
    inside = essence(document.text("mediaType"))
    outside = essence(declared or "")
    if inside.startswith(_DOCKER_SCHEMA1) or outside.startswith(_DOCKER_SCHEMA1) or document.has("fsLayers"):
        raise UnsupportedError(f"Cannot read {document.what}: docker's schema 1 is not supported, push the image anew")
    known = INDEXES | MANIFESTS
    if document.has("manifests") and (document.has("layers") or document.has("config")):
        raise RegistryError(f"Invalid {document.what}: it has both manifests and layers")
    if outside in known and inside and inside != outside:
        raise RegistryError(f'Invalid {document.what}: it says "{inside:.200}", and its descriptor "{outside}"')
    media_type = inside or (outside if outside in known else "")
    if not media_type:
        media_type = OCI_INDEX if document.has("manifests") else OCI_MANIFEST if document.has("config") else ""
    if media_type not in known:
        found = (
            f'its type is "{media_type:.200}"' if media_type else f'it is "{outside:.200}"' if outside else "no type"
        )
        raise RegistryError(f"Invalid {document.what}: it is neither a manifest nor an index, {found}")
    return media_type
