"""Look names up in a stack of unpacked layers, as overlayfs merges them; nothing is followed or opened by a symlink.

topmost   whiteout: nothing below counts      file or symlink: that is it
   ...    directory: merged with the directories below, until an opaque one or something else
base
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from lxdpy.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from lxdpy.workers.layers.tree import OPAQUE

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


class Found:
    """What a path is in the stack: in `layers`, topmost first; more than one only for a merged directory."""

    __slots__ = ("layers", "path", "status")

    def __init__(self, path: bytes, status: os.stat_result, layers: Sequence[int]) -> None:
        self.path = path
        self.status = status
        self.layers = tuple(layers)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symlink."""
        return stat.S_ISLNK(self.status.st_mode)

    def read_link(self) -> bytes:
        """A symlink's target."""
        return os.readlink(self.path, dir_fd=self.layers[0])

    def open(self, flags: int) -> int:
        """A descriptor of it, in the topmost layer that has it. Raises OSError."""
        return openat2(self.layers[0], self.path, flags | os.O_CLOEXEC, resolve=_BENEATH)


class Lowers:
    """The layers whose root directories are open as `fds`, topmost first."""

    def __init__(self, fds: Iterable[int]) -> None:
        self._fds = tuple(fds)
        self._directories: dict[bytes, Found | None] = {}
        if self._fds:
            self._directories[b""] = Found(b"", os.fstat(self._fds[0]), self._fds)

    def lookup(self, path: bytes) -> Found | None:
        """What is at `path`, no component of which is a symlink; None for nothing."""
        if path in self._directories:
            return self._directories[path]
        parent_path, _, _ = path.rpartition(b"/")
        if not path:
            return None
        parent = self.lookup(parent_path)
        found = self._child(parent, path) if parent is not None and parent.is_directory else None
        if found is None or found.is_directory:
            self._directories[path] = found
        return found

    def names(self) -> set[bytes]:
        """The names in the merged root directory."""
        root = self._directories.get(b"")
        names: set[bytes] = set()
        for fd in root.layers if root is not None else ():
            with os.scandir(fd) as listing:
                names.update(os.fsencode(item.name) for item in listing)
        return {name for name in names if self.lookup(name) is not None}

    def _child(self, parent: Found, path: bytes) -> Found | None:
        first: os.stat_result | None = None
        layers = []
        for fd in parent.layers:
            try:
                status = os.stat(path, dir_fd=fd, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(status.st_mode):
                if first is None and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                    return Found(path, status, (fd,))
                break
            first = first or status
            layers.append(fd)
            if _is_opaque(fd, path):
                break
        return Found(path, first, layers) if first is not None else None


def _is_opaque(layer_fd: int, path: bytes) -> bool:
    fd = openat2(layer_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_BENEATH)
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)
