"""What may not be collected: layers and blobs that jobs work on, or that somebody has who did not record them yet."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from lxdpy.oci.digest import Digest


class Holds:
    """Who needs which layer and which blob."""

    def __init__(self) -> None:
        self._layers: Counter[str] = Counter()
        self._blobs: Counter[Digest] = Counter()
        self._blobs_of: dict[str, list[tuple[Digest, ...]]] = {}

    def hold(self, layer_id: str, *blobs: Digest) -> None:
        """Keep a layer, and blobs with it, until it is released."""
        self._layers[layer_id] += 1
        self._blobs.update(blobs)
        self._blobs_of.setdefault(layer_id, []).append(blobs)

    def release(self, layer_ids: Sequence[str]) -> None:
        """Undo one `hold` of each layer."""
        for layer_id in layer_ids:
            held = self._blobs_of[layer_id]
            self._layers -= Counter((layer_id,))
            self._blobs -= Counter(held.pop())
            if not held:
                del self._blobs_of[layer_id]

    @contextmanager
    def busy(self, layer_ids: Collection[str], blobs: Collection[Digest]) -> Iterator[None]:
        """Keep layers, which need not be there yet, and blobs while a job works on them."""
        self._layers.update(layer_ids)
        self._blobs.update(blobs)
        try:
            yield
        finally:
            self._layers -= Counter(layer_ids)
            self._blobs -= Counter(blobs)

    def has_layer(self, layer_id: str) -> bool:
        """Whether somebody needs it."""
        return layer_id in self._layers

    def has_blob(self, digest: Digest) -> bool:
        """Whether somebody needs it."""
        return digest in self._blobs
