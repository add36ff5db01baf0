"""Content descriptors (OCI image-spec, descriptor.md)."""

import base64
import binascii
from dataclasses import dataclass

from lxdpy.errors import DigestMismatchError, InvalidRequestError, RegistryError
from lxdpy.oci.digest import Digest
from lxdpy.oci.document import Fields


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of one blob or document; `data` is inline content, if any."""

    media_type: str
    digest: Digest
    size: int
    data: bytes | None = None

    @classmethod
    def read(cls, fields: Fields) -> "Descriptor":
        """Read one from a document. Raises RegistryError, and DigestMismatchError when inline content is not its."""
        try:
            digest = Digest.parse(fields.text("digest"))
        except InvalidRequestError as exc:
            raise RegistryError(f"Invalid {fields.what}: {exc}") from exc
        descriptor = cls(fields.text("mediaType"), digest, fields.size("size"))
        inline = fields.text("data")
        if not inline:
            return descriptor
        try:
            data = base64.b64decode(inline, validate=True)
        except binascii.Error as exc:
            raise RegistryError(f"Invalid {fields.what}: data must be base64") from exc
        descriptor.verify(data)
        return cls(descriptor.media_type, digest, descriptor.size, data)

    def verify(self, data: bytes) -> None:
        """Raises DigestMismatchError unless `data` has the digest and the size."""
        if len(data) != self.size:
            raise DigestMismatchError(f"Content of {self.digest} has {len(data)} bytes, and not {self.size}")
        if not self.digest.matches(data):
            raise DigestMismatchError(f"Content of {self.digest} has another digest")
