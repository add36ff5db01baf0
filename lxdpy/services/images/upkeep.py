"""Images that grow old: those that are kept up to date, and those that nobody wants any more.

The time is always the caller's: nothing here looks at a clock, or waits.
"""

import asyncio
import logging

from lxdpy.db.images import ImageKind, ImageRecord
from lxdpy.errors import InvalidRequestError, LxdpyError
from lxdpy.oci.reference import Reference
from lxdpy.progress import Progress
from lxdpy.services.images.import_ import ImageDetails
from lxdpy.services.images.service import ImageService
from lxdpy.services.images.source import STREAMS, ImageSource
from lxdpy.services.server_config import ServerConfig

logger = logging.getLogger(__name__)


class ImageUpkeep:
    """Refreshes and expires the images of `images`."""

    def __init__(self, images: ImageService, server_config: ServerConfig) -> None:
        self._images = images
        self._server_config = server_config
        self._refreshing = asyncio.Lock()
        """One image at a time: two that come from one place would be fetched twice."""

    async def refresh(self, fingerprint: str, progress: Progress) -> bool:
        """Fetch what the image's source has now; the new image takes over the names of the old one, which is deleted.

        Whether there was something new. Raises NotFoundError, InvalidRequestError (it came from nowhere), RegistryError
        and what else fetching raises; then the old image stays.
        """
        async with self._refreshing:
            image = self._images.get(fingerprint)
            source = source_of(image)
            if source is None:
                raise InvalidRequestError(
                    f"Cannot refresh image {image.fingerprint[:12]}: it did not come from a registry or image server"
                )
            found = await self._images.find(source, refresh=True)
            if found.fingerprint == image.fingerprint:
                return False
            logger.info("Image %s of %s is now %s", image.fingerprint[:12], source.name, found.fingerprint[:12])
            wanted = ImageDetails(
                cached=image.cached,
                auto_update=image.auto_update,
                profiles=image.profiles,
                project=image.projects[0],
            )
            new = await self._images.fetch(found, wanted, progress)
            await self._images.supersede(image.fingerprint, new.fingerprint)
            return True

    async def update_all(self, progress: Progress) -> int:
        """Refresh every image that is to be kept up to date; how many were. What fails is logged, and stays."""
        updated = 0
        for image in self._images.all():
            if not image.auto_update or source_of(image) is None:
                continue
            try:
                updated += await self.refresh(image.fingerprint, progress)
            except LxdpyError as exc:
                logger.warning("Cannot update image %s: %s", image.fingerprint[:12], exc)
        return updated

    async def expire(self, now: float) -> list[str]:
        """Delete the cached images that no instance was made of for long enough, or whose time is over.

        Which they were. Instances of them stay.
        """
        limit = self._server_config.remote_cache_expiry_s
        gone = []
        for image in self._images.all():
            used = max(image.last_used_at, image.uploaded_at)
            if not image.cached or not (used + limit <= now or 0 < image.expires_at <= now):
                continue
            logger.info("Image %s has expired", image.fingerprint[:12])
            try:
                await self._images.delete(image.fingerprint)
            except LxdpyError as exc:
                logger.warning("Cannot delete expired image %s: %s", image.fingerprint[:12], exc)
            else:
                gone.append(image.fingerprint)
        return gone


def source_of(image: ImageRecord) -> ImageSource | None:
    """Where a newer one may be; None when it came with a client, or is one that never changes."""
    if image.protocol == STREAMS and image.server and image.reference:
        return ImageSource(alias=image.reference, server=image.server, protocol=STREAMS, certificate=image.certificate)
    if image.protocol == "oci" and image.kind is ImageKind.OCI and image.reference:
        pinned = Reference.parse(image.reference).digest is not None
        return None if pinned else ImageSource(alias=image.reference, protocol="oci")
    return None
