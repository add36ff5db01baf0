"""syncfs(2)."""

from __future__ import annotations

import ctypes
import os

_syncfs = ctypes.CDLL(None, use_errno=True).syncfs
_syncfs.argtypes = (ctypes.c_int,)


def syncfs(fd: int) -> None:
    """Write everything of the file system that `fd` is on to its disk. Raises OSError, also for earlier failures."""
    if _syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"syncfs: {os.strerror(code)}")
