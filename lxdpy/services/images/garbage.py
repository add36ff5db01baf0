"""What may go from the store: layers and blobs that no image, nothing else and nobody at work refers to."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from lxdpy.drivers.base import Collected, Store
from lxdpy.oci.digest import Digest

logger = logging.getLogger(__name__)

Uses = tuple[Sequence[str], Sequence[Digest]]
"""Layer ids and blobs that something stands on."""


class Garbage:
    """Collects garbage in the store. No counters could go wrong: all who refer to something are asked each time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pinned_layers: Counter[str] = Counter()
        self._pinned_blobs: Counter[Digest] = Counter()
        self._referrers: list[Callable[[], Iterable[Uses]]] = []

    def add_referrer(self, uses: Callable[[], Iterable[Uses]]) -> None:
        """Let `uses()` tell what keeps layers and blobs alive."""
        self._referrers.append(uses)

    @contextmanager
    def pin(self, layers: Sequence[str], blobs: Sequence[Digest]) -> Iterator[None]:
        """Keep layers and blobs from collection while something that will refer to them is being made."""
        self._pinned_layers.update(layers)
        self._pinned_blobs.update(blobs)
        try:
            yield
        finally:
            self._pinned_layers -= Counter(layers)
            self._pinned_blobs -= Counter(blobs)

    async def collect(self) -> Collected:
        """Remove layers and blobs that nothing refers to."""
        layers = set(self._pinned_layers)
        blobs = set(self._pinned_blobs)
        for uses in self._referrers:
            for used_layers, used_blobs in uses():
                layers.update(used_layers)
                blobs.update(used_blobs)
        # The store decides before its first pause: nothing can come to rely on what goes.
        collected = await self._store.collect(layers, blobs)
        if collected.layers or collected.blobs:
            logger.info("Collected %d layers and %d blobs", collected.layers, collected.blobs)
        return collected
