"""Image manifests, docker's and OCI's. Which compression a layer has is for its reader to find out: types lie."""

from dataclasses import dataclass

from lxdpy.errors import RegistryError, UnsupportedError
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.document import Fields
from lxdpy.oci.media_types import CONFIGS, INDEXES, essence, of_document


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image of one platform: its config and its layers, base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def parse(cls, data: bytes, media_type: str | None) -> "Manifest":
        """Read a manifest; `media_type` is what it was announced as, if anything was said.

        Raises RegistryError for a malformed one, UnsupportedError for what is no container image or can't be read
        here, and DigestMismatchError for inline content that is not what it should be.
        """
        return cls.read(Fields.parse(data, "manifest"), media_type)

    @classmethod
    def read(cls, document: Fields, media_type: str | None) -> "Manifest":
        """Like `parse`, of a document that is read already."""
        found = of_document(document, media_type)
        if found in INDEXES:
            raise RegistryError(f"Invalid {document.what}: it is an index")
        config = Descriptor.read(document.object("config"))
        if essence(config.media_type) not in CONFIGS:
            raise UnsupportedError(f'It is no container image: its config is "{config.media_type:.200}"')
        layers = tuple(Descriptor.read(layer) for layer in document.objects("layers"))
        for layer in layers:
            if essence(layer.media_type).endswith("+encrypted"):
                raise UnsupportedError(f"Layer {layer.digest} is encrypted")
        return cls(found, config, layers)
