"""The driver: a helper process reads the server's documents, the layer workers fetch its files.

The documents are megabytes of JSON from a stranger: in the daemon they would take its interpreter's lock, and memory.
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from lxdpy.drivers.base import BlobEndpoint, BlobSource, RemoteFile, RemoteImage
from lxdpy.drivers.simplestreams.messages import Find, decode_answer
from lxdpy.errors import AccessDeniedError, InvalidRequestError, RegistryError, WorkerError

HELPER = (sys.executable, "-I", "-m", "lxdpy.workers.streams")

_IDLE_TIMEOUT_S = 20.0
_TIMEOUT_S = 120.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MAX_CERTIFICATE = 64 << 10


class StreamsClient:
    """Implements `drivers.base.ImageServers`."""

    def __init__(
        self,
        *,
        helper: Sequence[str] = HELPER,
        timeout_s: float = _TIMEOUT_S,
        idle_timeout_s: float = _IDLE_TIMEOUT_S,
    ) -> None:
        self._helper = tuple(helper)
        self._timeout_s = timeout_s
        self._idle_timeout_s = idle_timeout_s

    async def find(
        self, server: str, name: str, *, architectures: Sequence[tuple[str, str]], certificate: str
    ) -> RemoteImage:
        """See `ImageServers.find`."""
        server = check_server(server)
        if len(certificate) > _MAX_CERTIFICATE:
            raise InvalidRequestError(f"Cannot use the certificate of {server}: it is too large")
        request = Find(server, name, tuple(architectures), certificate, self._idle_timeout_s)
        out, said = await self._ask(server, request.encode())
        try:
            return decode_answer(out)
        except (ValueError, KeyError, TypeError) as exc:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise WorkerError(f"Cannot look for an image on {server}: the helper failed: {last:.500}") from exc

    def source(self, image: RemoteImage, file: RemoteFile, *, certificate: str) -> BlobSource:
        """See `ImageServers.source`."""
        url = f"{image.server}/{quote(file.path.lstrip('/'), safe='/:+~@')}"
        return _Source(BlobEndpoint(url, {}, ca_data=certificate or None))

    async def _ask(self, server: str, request: bytes) -> tuple[bytes, bytes]:
        try:
            process = await asyncio.to_thread(
                subprocess.Popen,
                self._helper,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as exc:
            raise WorkerError(f"Cannot look for an image on {server}: the helper did not start: {exc}") from exc
        try:
            return await asyncio.to_thread(process.communicate, request, self._timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.communicate)
            raise RegistryError(
                f"Cannot look for an image on {server}: its documents did not come within {self._timeout_s:g} s"
            ) from None
        except asyncio.CancelledError:
            # The thread that talks with it sees its end.
            process.kill()
            raise


class _Source:
    """Implements `drivers.base.BlobSource` for one file of an image server."""

    def __init__(self, endpoint: BlobEndpoint) -> None:
        self._endpoint = endpoint

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        """See `BlobSource.endpoints`."""
        return (self._endpoint,)

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        """See `BlobSource.renew`."""
        raise AccessDeniedError(f"{endpoint.url} wants a login: image servers that do are not supported")


def check_server(server: str) -> str:
    """An image server's URL without a slash at its end. Raises InvalidRequestError: https, or loopback."""
    parts = urlsplit(server)
    try:
        plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
        valid = (parts.scheme == "https" or plain) and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or not server.isprintable():
        raise InvalidRequestError(f'Invalid image server "{server:.200}": expected https://HOST[:PORT][/PATH]')
    if parts.username is not None:
        raise InvalidRequestError("Invalid image server: image servers with a login are not supported")
    return server.rstrip("/")
