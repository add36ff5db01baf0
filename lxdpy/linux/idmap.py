"""User namespaces as id maps, and acting on files as an id that is mapped."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lxdpy.linux.mount import CLONE_NEWUSER, unshare

_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.capget.argtypes = (ctypes.POINTER(_CapHeader), ctypes.POINTER(_CapData))
_libc.capset.argtypes = (ctypes.POINTER(_CapHeader), ctypes.POINTER(_CapData))
_libc.setfsuid.argtypes = (ctypes.c_uint32,)
_libc.setfsgid.argtypes = (ctypes.c_uint32,)


def open_userns(base: int, size: int) -> int:
    """A descriptor of a new user namespace that maps ids 0..size-1 to base..base+size-1. Forks. Raises OSError."""
    made_read, made_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(done_write)
            unshare(CLONE_NEWUSER)
            os.write(made_write, b"x")
            os.read(done_read, 1)
        finally:
            os._exit(0)
    try:
        os.close(made_write)
        made_write = -1
        if not os.read(made_read, 1):
            raise OSError(0, "Cannot create a user namespace (see sysctl user.max_user_namespaces)")
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"0 %d %d\n" % (base, size))
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (made_read, made_write, done_read, done_write):
            if fd >= 0:
                os.close(fd)
        os.waitpid(pid, 0)


@contextmanager
def file_system_ids(uid: int, gid: int) -> Iterator[None]:
    """Create files as `uid` and `gid`, still with every capability.

    A file system id other than 0 takes the file capabilities away; they are raised again while the block runs.
    """
    _set_fsids(uid, gid)
    try:
        _raise_capabilities()
        yield
    finally:
        _set_fsids(0, 0)
        _raise_capabilities()


def host_id(map_file: str, inside: int) -> int | None:
    """The host's id for one inside a user namespace by its uid_map or gid_map; None if unmapped. Raises OSError."""
    with open(map_file, encoding="ascii") as file:
        for line in file:
            start, host, size = (int(field) for field in line.split())
            if start <= inside < start + size:
                return host + inside - start
    return None


def _set_fsids(uid: int, gid: int) -> None:
    # The calls return the former id and never say whether they worked; asking with an invalid id does.
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    if _libc.setfsuid(0xFFFFFFFF) != uid or _libc.setfsgid(0xFFFFFFFF) != gid:
        raise PermissionError(1, f"Cannot act as uid {uid}, gid {gid} on file systems")


def _raise_capabilities() -> None:
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    if _libc.capget(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for word in data:
        word.effective = word.permitted
    if _libc.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
