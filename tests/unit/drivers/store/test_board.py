"""Progress: who hears what."""

from lxdpy.drivers.base import LayerRequest
from lxdpy.drivers.store.board import Board
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.progress import LayerProgress, LayerState, NoProgress


class Listener(NoProgress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[LayerProgress] = []

    def layer(self, update: LayerProgress) -> None:
        """Remember."""
        self.heard.append(update)


def layer(blob: bytes, diff: bytes = b"diff", size: int = 100) -> LayerRequest:
    return LayerRequest(Descriptor("type", Digest.of(blob), size), Digest.of(diff), None)


def test_all_who_wait_hear_the_same() -> None:
    board, early, late = Board(), Listener(), Listener()
    one, other = layer(b"gzip"), layer(b"zstd", size=80)
    with board.reading([one], early):
        board.write(one.diff_id, LayerState.DOWNLOADING, 50)
        with board.reading([other], late):
            board.write(one.diff_id, LayerState.UNPACKING, 100)
        board.finish(one, early, LayerState.DONE)
    blob, other_blob = str(one.descriptor.digest), str(other.descriptor.digest)
    assert early.heard == [
        LayerProgress(blob, 100, 0, LayerState.WAITING),
        LayerProgress(blob, 100, 50, LayerState.DOWNLOADING),
        LayerProgress(blob, 100, 100, LayerState.UNPACKING),
        LayerProgress(blob, 100, 100, LayerState.DONE),
    ]
    # The same layer in another compression: in terms of what this image calls it.
    assert late.heard == [
        LayerProgress(other_blob, 80, 50, LayerState.DOWNLOADING),
        LayerProgress(other_blob, 80, 80, LayerState.UNPACKING),
    ]


def test_a_new_job_starts_at_nothing() -> None:
    board, listener = Board(), Listener()
    one = layer(b"x")
    board.write(one.diff_id, LayerState.DOWNLOADING, 50)
    board.wipe(one.diff_id)
    with board.reading([one, one], listener):
        pass
    assert [update.state for update in listener.heard] == [LayerState.WAITING] * 2
