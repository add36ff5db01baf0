"""Content-addressed blobs and unpacked layers.

store      the driver: which layers are here, who waits for which, what may go
worker     conversations with the layer workers (workers/layers)
disk       files and directories: names, publishing, start-up, space
flights    one job for all who want the same
slots      so many jobs at once, fair between images
board      who is told about the progress of a layer
trash      deletion
messages   what store and workers say to each other
"""

from lxdpy.drivers.store.store import LayerStore

__all__ = ["LayerStore"]
