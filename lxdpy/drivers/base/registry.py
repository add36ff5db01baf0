"""Image registries: a reference becomes a manifest and its config; where blobs are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.manifest import Manifest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """One image of one platform, verified down to its config; no layer is fetched yet."""

    reference: Reference
    endpoint: str
    """Base URL of the registry or mirror that answered, e.g. `https://registry-1.docker.io`."""
    manifest_digest: Digest
    manifest_bytes: bytes
    manifest: Manifest
    config_bytes: bytes
    config: ImageConfig
    index_digest: Digest | None = None
    index_bytes: bytes | None = None


@dataclass(frozen=True, slots=True)
class BlobEndpoint:
    """One URL that serves a blob, and how to speak with its host. Crosses to workers as JSON."""

    url: str
    headers: Mapping[str, str]
    verify: bool = True
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    ca_data: str | None = None
    """PEM certificates to trust instead of the system's."""


class BlobSource(Protocol):
    """Where one blob can be fetched: mirrors first, the origin last."""

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        """The URLs to try in order, with headers that are good now. Raises RegistryError, AccessDeniedError."""

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        """The same endpoint with fresh credentials, after a 401 with these WWW-Authenticate values.

        Raises AccessDeniedError when there are none to be had.
        """


class Registry(Protocol):
    """Client of every registry that speaks the OCI distribution protocol."""

    async def resolve(
        self, reference: Reference, platform: Platform, *, cached: Callable[[Digest], bytes | None]
    ) -> ResolvedImage:
        """Follow `reference` to a manifest and config of `platform`.

        `cached` gives documents this host has already, by digest: they are not fetched again. Raises NotFoundError
        (naming the registry asked), AccessDeniedError, RegistryError, DigestMismatchError, InvalidRequestError.
        """

    def blob_source(self, image: ResolvedImage, blob: Descriptor) -> BlobSource:
        """Where a blob of `image` can be fetched."""

    async def aclose(self) -> None:
        """Close connections."""
