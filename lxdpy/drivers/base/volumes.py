"""Trees of files that belong to volumes."""

from pathlib import Path
from typing import Protocol


class VolumeTrees(Protocol):
    """Trees of files on this host's disks, handled outside of the daemon's process."""

    async def copy(self, source: Path, target: Path) -> None:
        """Copy a tree, which somebody may be writing to, with all its attributes to `target`, which must not exist.

        Nothing writes to `target` any more when this returns or raises. Raises NoSpaceError, WorkerError.
        """

    async def usage(self, path: Path) -> int:
        """Bytes that a tree takes on its disk. Raises WorkerError."""
