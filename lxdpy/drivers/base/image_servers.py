"""Image servers (simplestreams): which image a name means, and where its files are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lxdpy.drivers.base.registry import BlobSource
from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of an image on an image server; `path` is below the server's URL."""

    path: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that an image server has."""

    server: str
    fingerprint: str
    files: tuple[RemoteFile, ...]
    """One that holds everything, or metadata and root file system."""
    created_at: float
    expires_at: float
    """When its release ends; 0: not known."""
    properties: Mapping[str, str]
    filename: str


class ImageServers(Protocol):
    """Client of image servers that speak simplestreams."""

    async def find(
        self, server: str, name: str, *, architectures: Sequence[tuple[str, str]], certificate: str
    ) -> RemoteImage:
        """The image that `name`, an alias or a fingerprint, means on `server`.

        `architectures`: those that will do, the wanted one first, as (LXD's name, Debian's name). `certificate`: PEM,
        trusted instead of the system's. Raises NotFoundError, RegistryError, InvalidRequestError.
        """

    def source(self, image: RemoteImage, file: RemoteFile, *, certificate: str) -> BlobSource:
        """Where a file of an image can be fetched."""
