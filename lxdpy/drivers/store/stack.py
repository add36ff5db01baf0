"""The layers of one image, and what each is called in the store.

d-DIFF_ID    a layer that stands for itself: whoever has it shares it
c-CHAIN_ID   one that needs those below
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lxdpy.drivers.base import LayerRequest
from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The layers of one image, base first."""

    layers: Sequence[LayerRequest]
    chain: Sequence[Digest]

    def ids(self) -> set[str]:
        """All that its layers may be called in the store."""
        return {own_id(layer.diff_id) for layer in self.layers} | {chain_layer_id(chain_id) for chain_id in self.chain}


def own_id(diff_id: Digest) -> str:
    """Of a layer that stands for itself."""
    return f"d-{diff_id.hex}"


def chain_layer_id(chain_id: Digest) -> str:
    """Of a layer that needs those below."""
    return f"c-{chain_id.hex}"
