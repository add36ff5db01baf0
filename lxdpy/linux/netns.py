"""Network namespaces of threads."""

import ctypes
import os

CLONE_NEWNET = 0x40000000

_setns = ctypes.CDLL(None, use_errno=True).setns
_setns.argtypes = (ctypes.c_int, ctypes.c_int)
_setns.restype = ctypes.c_int


def open_netns(pid: int | None = None) -> int:
    """A file descriptor of a process's network namespace, or of the calling thread's. Raises OSError (ENOENT)."""
    return os.open(f"/proc/{'thread-self' if pid is None else pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def setns_net(fd: int) -> None:
    """Move the calling thread, and it alone, into a network namespace. Raises OSError."""
    if _setns(fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")
