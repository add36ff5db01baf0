"""Where a blob can be fetched, for the worker that fetches it."""

import logging
from collections.abc import Sequence

from lxdpy.drivers.base import BlobEndpoint, ResolvedImage
from lxdpy.drivers.registry.hosts import Host
from lxdpy.drivers.registry.session import Session
from lxdpy.errors import LxdpyError, RegistryError
from lxdpy.oci.descriptor import Descriptor

logger = logging.getLogger(__name__)


class RegistryBlobSource:
    """Implements `drivers.base.BlobSource` for one blob of an image.

    A host that was not asked before has no Authorization in its endpoint: its 401 is the worker's reason to `renew`.
    """

    def __init__(self, session: Session, image: ResolvedImage, blob: Descriptor) -> None:
        self._session = session
        self._image = image
        self._blob = blob
        self._hosts: dict[str, Host] = {}

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        """See `BlobSource.endpoints`; the host that gave the manifest comes first."""
        found: list[BlobEndpoint] = []
        failure: LxdpyError | None = None
        for host in self._session.hosts(self._image.reference):
            try:
                base = await self._session.base_url(host)
                authorization = await self._session.auth.authorization(host, self._image.reference.repository)
            except LxdpyError as exc:
                logger.warning("Cannot fetch %s from %s: %s", self._blob.digest, host.name, exc)
                failure = exc
                continue
            url = f"{base}{host.path(self._image.reference.repository, 'blobs', str(self._blob.digest))}"
            self._hosts[url] = host
            endpoint = _endpoint(url, host, authorization)
            if base == self._image.endpoint:
                found.insert(0, endpoint)
            else:
                found.append(endpoint)
        if not found and failure is not None:
            raise failure
        return tuple(found)

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        """See `BlobSource.renew`."""
        host = self._hosts.get(endpoint.url)
        if host is None:
            raise RegistryError(f"Cannot renew the credentials of {endpoint.url}: it is no endpoint of this blob")
        used = endpoint.headers.get("Authorization")
        repository = self._image.reference.repository
        return _endpoint(endpoint.url, host, await self._session.auth.renew(host, repository, challenges, used))


def _endpoint(url: str, host: Host, authorization: str | None) -> BlobEndpoint:
    headers = {"Accept-Encoding": "identity"}
    if authorization is not None:
        headers["Authorization"] = authorization
    return BlobEndpoint(url, headers, host.verify, host.ca_file, host.client_cert, host.client_key)
