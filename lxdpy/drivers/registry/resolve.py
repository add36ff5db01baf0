"""From a reference to a manifest and config.

    GET manifests/TAG        an index, or a manifest
    GET manifests/DIGEST     the manifest of the platform     } not asked for when
    GET blobs/DIGEST         the image's config               } this host has it

Every document has the digest and size that its descriptor promises. What a registry itself says of a digest
(Docker-Content-Digest) is not asked.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lxdpy.drivers.base import ResolvedImage
from lxdpy.drivers.registry.hosts import Host
from lxdpy.drivers.registry.session import Session, first
from lxdpy.errors import DigestMismatchError, LxdpyError, NotFoundError, RegistryError
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.document import MAX_DOCUMENT_BYTES, Fields
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.index import MAX_DEPTH, Index
from lxdpy.oci.manifest import Manifest
from lxdpy.oci.media_types import MANIFESTS, of_document
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference

Cached = Callable[[Digest], bytes | None]


@dataclass(frozen=True, slots=True)
class _Document:
    """A manifest or index, verified and known to be one of the two; `declared` is what it was announced as."""

    data: bytes
    digest: Digest
    declared: str | None
    fields: Fields
    media_type: str

    @classmethod
    def read(cls, data: bytes, digest: Digest, declared: str | None) -> "_Document":
        fields = Fields.parse(data, "manifest")
        return cls(data, digest, declared, fields, of_document(fields, declared))


class Resolution:
    """One run of `Registry.resolve`."""

    def __init__(self, session: Session, reference: Reference, platform: Platform, cached: Cached) -> None:
        self._session = session
        self._reference = reference
        self._platform = platform
        self._cached = cached
        self._hosts = session.hosts(reference)

    async def run(self) -> ResolvedImage:
        """See `Registry.resolve`."""
        try:
            return await self._run()
        except LxdpyError as exc:
            raise type(exc)(f'Cannot resolve image "{self._reference.familiar}": {exc}') from exc

    async def _run(self) -> ResolvedImage:
        document, index = await self._root(), None
        for _ in range(MAX_DEPTH + 1):
            if document.media_type in MANIFESTS:
                break
            index = index or document
            child = Index.read(document.fields, document.declared).select(self._platform)
            document = _Document.read(await self._fetch(child, "manifests"), child.digest, child.media_type)
        else:
            raise RegistryError(f"more than {MAX_DEPTH} indexes lie within one another")
        manifest = Manifest.read(document.fields, document.declared)
        config_bytes = await self._fetch(manifest.config, "blobs")
        config = ImageConfig.parse(config_bytes, len(manifest.layers))
        self._check_platform(config)
        return ResolvedImage(
            reference=self._reference,
            endpoint=await self._endpoint(),
            manifest_digest=document.digest,
            manifest_bytes=document.data,
            manifest=manifest,
            config_bytes=config_bytes,
            config=config,
            index_digest=index.digest if index is not None else None,
            index_bytes=index.data if index is not None else None,
        )

    async def _root(self) -> _Document:
        """What the reference itself names."""
        pin = self._reference.digest
        if pin is not None and (data := self._cached(pin)) is not None:
            return _Document.read(data, pin, None)

        async def ask(host: Host) -> _Document:
            response = await self._session.get(
                host, self._reference, "manifests", self._reference.target, limit=MAX_DOCUMENT_BYTES
            )
            if pin is not None and not pin.matches(response.body):
                raise DigestMismatchError(f"{host.name} gave something else than {pin}")
            digest = pin or Digest.of(response.body)
            document = _Document.read(response.body, digest, response.content_type())
            self._prefer(host)
            return document

        return await first(self._hosts, ask)

    async def _fetch(self, descriptor: Descriptor, kind: str) -> bytes:
        """The document of a descriptor: out of the descriptor, from this host, from a registry."""
        data = descriptor.data if descriptor.data is not None else self._cached(descriptor.digest)
        if data is not None:
            descriptor.verify(data)
            return data
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise RegistryError(f"{descriptor.digest} has {descriptor.size} bytes, more than {MAX_DOCUMENT_BYTES}")

        async def ask(host: Host) -> bytes:
            name = str(descriptor.digest)
            response = await self._session.get(host, self._reference, kind, name, limit=descriptor.size + 1)
            try:
                descriptor.verify(response.body)
            except DigestMismatchError as exc:
                raise DigestMismatchError(f"{host.name} gave something else than was asked for: {exc}") from exc
            self._prefer(host)
            return response.body

        return await first(self._hosts, ask)

    def _prefer(self, host: Host) -> None:
        """Ask the host that answered first from now on."""
        self._hosts = (host, *(other for other in self._hosts if other != host))

    def _check_platform(self, config: ImageConfig) -> None:
        """An index may lie, and a manifest without an index says nothing."""
        offered, wanted = Platform(config.os, config.architecture).normalised(), self._platform.normalised()
        if (config.os and offered.os != wanted.os) or (
            config.architecture and offered.architecture != wanted.architecture
        ):
            raise NotFoundError(f"it is for {config.os}/{config.architecture}, not for {self._platform}")

    async def _endpoint(self) -> str:
        host = self._hosts[0]
        try:
            return await self._session.base_url(host)
        except RegistryError:
            # Nothing had to be asked, so nobody need be there.
            return f"{host.schemes[0]}://{host.address}"
