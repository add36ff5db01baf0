"""Content-addressed blobs and unpacked layers.

store      the driver: which layers are here, who waits for which, what may go
worker     conversations with the layer workers (workers/layers)
disk       files and directories: names, publishing, start-up, space
flights    one job for all who want the same
slots      so many jobs at once, fair between images
board      who is told about the progress of a layer
trash      deletion
messages   what store and workers say to each other

`LayerStore` is looked up on first use: the layer workers need the messages alone, and start in half the time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxdpy.drivers.store.store import LayerStore

__all__ = ["LayerStore"]


def __getattr__(name: str) -> object:
    if name == "LayerStore":
        from lxdpy.drivers.store import store

        return store.LayerStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
