"""An image's ancestry: its chain of layers, newest first, each with the history line that made it."""

from collections.abc import Sequence
from dataclasses import dataclass

from lxdpy.drivers.base import StoredLayer
from lxdpy.oci.chain_id import chain_ids
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import HistoryEntry, ImageConfig
from lxdpy.oci.manifest import Manifest

_NO_HISTORY = HistoryEntry(created="", created_by="", author="", comment="", empty_layer=False)


@dataclass(frozen=True, slots=True)
class AncestryEntry:
    """One layer and the stack below it: `chain_id` names both (image-spec, config.md#layer-chainid)."""

    chain_id: Digest
    diff_id: Digest
    digest: Digest
    size_bytes: int
    """Compressed, as in the registry."""
    layer: StoredLayer | None
    """As it lies in the store; None when a power cut took it and nobody needed it since."""
    history: HistoryEntry


def ancestry(manifest: Manifest, config: ImageConfig, layers: Sequence[StoredLayer | None]) -> list[AncestryEntry]:
    """The chain of an image, newest first, as the registry API of 2014 gave it."""
    steps = [step for step in config.history if not step.empty_layer]
    # History is for people: registries hold images whose history does not fit their layers.
    if len(steps) != len(manifest.layers):
        steps = [_NO_HISTORY] * len(manifest.layers)
    entries = [
        AncestryEntry(chain, diff_id, blob.digest, blob.size, layer, step)
        for chain, diff_id, blob, layer, step in zip(
            chain_ids(config.diff_ids), config.diff_ids, manifest.layers, layers, steps, strict=True
        )
    ]
    return entries[::-1]
