"""Image indexes: one name, a manifest for each platform."""

from dataclasses import dataclass

from lxdpy.errors import NotFoundError, RegistryError
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.document import Fields
from lxdpy.oci.media_types import INDEXES, MANIFESTS, essence, of_document
from lxdpy.oci.platform import Platform

MAX_ENTRIES = 1000
MAX_DEPTH = 3
"""How many indexes may lie within one another."""

_REFERENCE_TYPE = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One manifest, or an index within the index; `platform` is None when nothing is said."""

    descriptor: Descriptor
    platform: Platform | None


@dataclass(frozen=True, slots=True)
class Index:
    """What an index offers, without attestations and other things that are no images."""

    media_type: str
    entries: tuple[IndexEntry, ...]

    @classmethod
    def parse(cls, data: bytes, media_type: str | None) -> "Index":
        """Read an index. Raises RegistryError for a malformed one or one with more than MAX_ENTRIES entries."""
        return cls.read(Fields.parse(data, "index"), media_type)

    @classmethod
    def read(cls, document: Fields, media_type: str | None) -> "Index":
        """Like `parse`, of a document that is read already."""
        found = of_document(document, media_type)
        if found not in INDEXES:
            raise RegistryError(f"Invalid {document.what}: it is a manifest")
        manifests = document.objects("manifests")
        if len(manifests) > MAX_ENTRIES:
            raise RegistryError(f"Invalid {document.what}: {len(manifests)} entries are more than {MAX_ENTRIES}")
        return cls(found, tuple(_entry(fields) for fields in manifests if _is_image(fields)))

    def select(self, platform: Platform) -> Descriptor:
        """The manifest for `platform`, or the index to look into when no manifest here fits.

        The nearest variant wins, then the first. An entry that names no platform is taken when it is the only one;
        its config must be checked. Raises NotFoundError listing what is offered.
        """
        fitting: list[tuple[int, Descriptor]] = []
        nested: list[Descriptor] = []
        for entry in self.entries:
            distance = None if entry.platform is None else platform.distance(entry.platform)
            if essence(entry.descriptor.media_type) in INDEXES:
                if entry.platform is None or distance is not None:
                    nested.append(entry.descriptor)
            elif distance is not None:
                fitting.append((distance, entry.descriptor))
        if fitting:
            return min(fitting, key=lambda pair: pair[0])[1]
        if nested:
            return nested[0]
        if len(self.entries) == 1 and self.entries[0].platform is None:
            return self.entries[0].descriptor
        offered = ", ".join(dict.fromkeys(str(entry.platform or "unnamed") for entry in self.entries)) or "nothing"
        raise NotFoundError(f"No manifest for {platform}; offered: {offered:.500}")


def _is_image(fields: Fields) -> bool:
    if essence(fields.text("mediaType")) not in INDEXES | MANIFESTS:
        return False
    if fields.object("platform").text("os") == "unknown":
        return False
    return _REFERENCE_TYPE not in fields.mapping("annotations")


def _entry(fields: Fields) -> IndexEntry:
    described = fields.object("platform")
    platform = Platform(described.text("os"), described.text("architecture"), described.text("variant"))
    return IndexEntry(Descriptor.read(fields), platform if platform.os or platform.architecture else None)
