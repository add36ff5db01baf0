"""The driver itself: what services see of the registries."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lxdpy.config import Config
from lxdpy.drivers.base import BlobSource, ResolvedImage
from lxdpy.drivers.registry.blobs import RegistryBlobSource
from lxdpy.drivers.registry.hosts import CERTS_DIRS
from lxdpy.drivers.registry.resolve import Resolution
from lxdpy.drivers.registry.session import Session
from lxdpy.drivers.registry.transport import IDLE_TIMEOUT_S
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference


class RegistryClient:
    """Implements `drivers.base.Registry`. Belongs to one event loop; connects when first used."""

    def __init__(
        self, config: Config, *, idle_timeout_s: float = IDLE_TIMEOUT_S, certs_dirs: Sequence[Path] = CERTS_DIRS
    ) -> None:
        self._session = Session(config, idle_timeout_s=idle_timeout_s, certs_dirs=certs_dirs)

    async def resolve(
        self, reference: Reference, platform: Platform, *, cached: Callable[[Digest], bytes | None]
    ) -> ResolvedImage:
        """See `Registry.resolve`."""
        return await Resolution(self._session, reference, platform, cached).run()

    def blob_source(self, image: ResolvedImage, blob: Descriptor) -> BlobSource:
        """See `Registry.blob_source`."""
        return RegistryBlobSource(self._session, image, blob)

    async def aclose(self) -> None:
        """See `Registry.aclose`."""
        await self._session.aclose()
