"""Image manifests and indexes, docker's and OCI's."""

from dataclasses import dataclass

from lxdpy.oci.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image of one platform: its config and its layers, base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
