"""Whether others may trace this process, read its memory, see its descriptors (PR_SET_DUMPABLE of prctl(2))."""

from __future__ import annotations

import ctypes
import os

_PR_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def seal() -> None:
    """Only who has CAP_SYS_PTRACE on the host may, until the next execve. Raises OSError."""
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl PR_SET_DUMPABLE: {os.strerror(code)}")
