"""Content descriptors (OCI image-spec, descriptor.md)."""

from dataclasses import dataclass

from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of one blob or document; `data` is inline content, if any."""

    media_type: str
    digest: Digest
    size: int
    data: bytes | None = None
