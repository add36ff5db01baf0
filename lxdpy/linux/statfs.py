"""fstatfs(2): the kind of file system that a file is on."""

from __future__ import annotations

import ctypes
import os

FUSE_SUPER_MAGIC = 0x65735546
OVERLAYFS_SUPER_MAGIC = 0x794C7630


class _Statfs(ctypes.Structure):
    # What follows differs between architectures, and is of no interest.
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.POINTER(_Statfs))


def file_system_type(fd: int) -> int:
    """The magic number of the file system that `fd` is on; it may be of the O_PATH kind. Raises OSError."""
    found = _Statfs()
    if _libc.fstatfs(fd, ctypes.byref(found)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found.f_type) & 0xFFFFFFFF
