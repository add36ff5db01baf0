"""Who is told about the progress of which layer: all who wait for it, whoever started the job."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lxdpy.drivers.base import LayerRequest
from lxdpy.oci.digest import Digest
from lxdpy.progress import LayerProgress, LayerState, Progress


class Board:
    """The state of each layer that somebody waits for, by diff_id."""

    def __init__(self) -> None:
        self._readers: dict[Digest, list[tuple[LayerRequest, Progress]]] = {}
        self._last: dict[Digest, tuple[LayerState, int]] = {}

    @contextmanager
    def reading(self, layers: Sequence[LayerRequest], progress: Progress) -> Iterator[None]:
        """Tell `progress` about these layers."""
        readers = [(layer, progress) for layer in layers]
        for reader in readers:
            diff_id = reader[0].diff_id
            self._readers.setdefault(diff_id, []).append(reader)
            _tell(reader, *self._last.get(diff_id, (LayerState.WAITING, 0)))
        try:
            yield
        finally:
            for reader in readers:
                diff_id = reader[0].diff_id
                self._readers[diff_id].remove(reader)
                if not self._readers[diff_id]:
                    del self._readers[diff_id]

    def write(self, diff_id: Digest, state: LayerState, done_bytes: int) -> None:
        """Tell all who wait for the layer; late-comers hear it, too."""
        self._last[diff_id] = state, done_bytes
        for reader in tuple(self._readers.get(diff_id, ())):
            _tell(reader, state, done_bytes)

    def wipe(self, diff_id: Digest) -> None:
        """The job ended: whoever comes later starts at nothing."""
        self._last.pop(diff_id, None)

    def finish(self, layer: LayerRequest, progress: Progress, state: LayerState) -> None:
        """Tell one reader that its layer is here."""
        _tell((layer, progress), state, layer.descriptor.size)


def _tell(reader: tuple[LayerRequest, Progress], state: LayerState, done_bytes: int) -> None:
    layer, progress = reader
    descriptor = layer.descriptor
    progress.layer(LayerProgress(str(descriptor.digest), descriptor.size, min(done_bytes, descriptor.size), state))
