"""Images of image servers (simplestreams): which one a source names, and its files on their way here."""

import time
from collections.abc import Callable, Iterable

from lxdpy.db.images import ImageRecord
from lxdpy.drivers.base import ImageFiles, ImageServers, RemoteFile, RemoteImage, Store
from lxdpy.errors import InvalidRequestError
from lxdpy.progress import Progress
from lxdpy.services import architectures
from lxdpy.services.images.source import STREAMS, ImageSource
from lxdpy.services.server_config import ServerConfig

_PARTS = ("metadata", "rootfs")


class RemoteImages:
    """What image servers have."""

    def __init__(self, store: Store, servers: ImageServers, server_config: ServerConfig) -> None:
        self._store = store
        self._servers = servers
        self._server_config = server_config

    def known(self, source: ImageSource, images: Iterable[ImageRecord]) -> ImageRecord | None:
        """The image that `source` named when it was fetched, if it is kept up to date: nobody need be asked then."""
        if not self._server_config.auto_update_interval_s:
            return None
        found = [
            image
            for image in images
            if image.auto_update
            and (image.protocol, image.server, image.reference) == (STREAMS, source.server.rstrip("/"), source.name)
        ]
        return max(found, key=lambda image: image.uploaded_at, default=None)

    async def find(self, source: ImageSource) -> RemoteImage:
        """Ask the server. Raises NotFoundError, RegistryError, InvalidRequestError."""
        if not source.name or not source.name.isprintable():
            raise InvalidRequestError(
                'Cannot fetch an image from an image server: source needs "alias" or "fingerprint"'
            )
        return await self._servers.find(
            source.server,
            source.name,
            architectures=self._architectures(),
            certificate=source.certificate,
        )

    async def fetch(self, image: RemoteImage, certificate: str, progress: Progress) -> ImageFiles:
        """Have the image's files in the store, where the caller pins them. Raises RegistryError, DigestMismatchError,
        AccessDeniedError, NoSpaceError, WorkerError."""
        await self._store.wake()
        files = [
            await self._store.fetch_file(
                file.digest,
                file.size,
                self._servers.source(image, file, certificate=certificate),
                _teller(part, file, progress),
            )
            for part, file in zip(_PARTS, image.files, strict=False)
        ]
        return ImageFiles(image.fingerprint, files[0], files[1] if len(files) > 1 else None)

    def _architectures(self) -> list[tuple[str, str]]:
        """What this host runs, the wanted one first, as (LXD's name, Debian's name)."""
        wanted = self._server_config.default_architecture
        ordered = sorted(architectures.of_host(), key=lambda name: bool(wanted) and name != wanted)
        return [(lxd, debian) for lxd in ordered for debian in architectures.debian_names(lxd)]


def _teller(part: str, file: RemoteFile, progress: Progress) -> Callable[[int], None]:
    """Tells how far a file is, as LXD's clients show it: `rootfs: 45% (12.3MB/s)`."""
    began, first = time.monotonic(), -1

    def tell(count: int) -> None:
        nonlocal first
        if first < 0:
            # What an earlier try left came at no speed.
            first = count
        elapsed = time.monotonic() - began
        speed = f" ({(count - first) / elapsed / 1e6:.1f}MB/s)" if elapsed > 0 and count > first else ""
        progress.note({"download_progress": f"{part}: {100 * count // file.size}%{speed}"})

    return tell
