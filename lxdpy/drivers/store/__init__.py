"""Content-addressed blobs and unpacked layers.

store      the driver: which layers are here, who waits for which, what may go
worker     conversations with the layer workers (workers/layers)
disk       files and directories: names, publishing, start-up, space
flights    one job for all who want the same
stack      the layers of one image, and their ids
turn       the slots that the job of one layer holds
slots      so many jobs at once, fair between images
holds      what may not be collected
packing    images and backups as files, made of layers; backups unpacked
incoming   images as files on their way in
copying    copies of upper directories
failures   errors of the system, as ours
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
