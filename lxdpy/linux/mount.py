"""Mounts: mount(2), the file-descriptor API (open_tree, move_mount, fsopen, fsconfig, fsmount, mount_setattr), unshare.

System call numbers above 400 are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_IDMAP = 0x00100000

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_unshare = _libc.unshare
_unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)


def _syscall(*types: type) -> ctypes._FuncPointer:
    """syscall(2) with argument types of its own; the number comes first."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.argtypes = (ctypes.c_long, *types)
    function.restype = ctypes.c_long
    return function


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_open_tree = _syscall(ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_move_mount = _syscall(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_fsopen = _syscall(ctypes.c_char_p, ctypes.c_uint)
_fsconfig = _syscall(ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
_fsmount = _syscall(ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_mount_setattr = _syscall(ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.POINTER(_MountAttr), ctypes.c_size_t)


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` for new ones. Raises OSError."""
    if _unshare(flags) != 0:
        raise _error("unshare")


def setns(fd: int, flags: int) -> None:
    """Enter a namespace, of the kind that `flags` names. Raises OSError."""
    if _libc.setns(fd, flags) != 0:
        raise _error("setns")


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """mount(2). Raises OSError."""
    arguments = [None if value is None else os.fsencode(value) for value in (source, target, fstype, data)]
    if _libc.mount(*arguments[:3], flags, arguments[3]) != 0:
        raise _error("mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    if _libc.umount2(os.fsencode(target), flags) != 0:
        raise _error("umount2", target)


def open_tree(path: str, flags: int = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, dir_fd: int = AT_FDCWD) -> int:
    """A descriptor of the mount at `path`, by default of a detached copy. Raises OSError."""
    fd: int = _open_tree(_SYS_OPEN_TREE, dir_fd, os.fsencode(path), flags)
    if fd < 0:
        raise _error("open_tree", path)
    return fd


def move_mount(fd: int, target: str | int) -> None:
    """Attach the detached mount `fd` at a path, or on top of an open file or directory. Raises OSError."""
    if isinstance(target, int):
        result = _move_mount(_SYS_MOVE_MOUNT, fd, b"", target, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    else:
        result = _move_mount(_SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
    if result != 0:
        raise _error("move_mount", target if isinstance(target, str) else None)


def mount_setattr(fd: int, attr_set: int, *, userns_fd: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """Set attributes of the mount `fd`, and of those below it; MOUNT_ATTR_IDMAP maps ids as the user namespace does.

    Raises OSError.
    """
    attr = _MountAttr(attr_set=attr_set, propagation=propagation, userns_fd=userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if _mount_setattr(_SYS_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr)) != 0:
        raise _error("mount_setattr")


def fsopen(fstype: str) -> int:
    """A descriptor to configure a new file system on. Raises OSError."""
    fd: int = _fsopen(_SYS_FSOPEN, os.fsencode(fstype), FSOPEN_CLOEXEC)
    if fd < 0:
        raise _error("fsopen", fstype)
    return fd


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None, aux: int = 0) -> None:
    """Set an option, or create the file system. Raises OSError with the kernel's own message, if it gave one."""
    arguments = [None if text is None else os.fsencode(text) for text in (key, value)]
    if _fsconfig(_SYS_FSCONFIG, fd, command, *arguments, aux) != 0:
        error = _error(f"fsconfig {key}" if key else "fsconfig create", value)
        if log := _fslog(fd):
            error.strerror = f"{error.strerror} ({log})"
        raise error


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """A descriptor of the detached mount of a created file system. Raises OSError."""
    mount_fd: int = _fsmount(_SYS_FSMOUNT, fd, FSMOUNT_CLOEXEC, attr_flags)
    if mount_fd < 0:
        raise _error("fsmount")
    return mount_fd


def _fslog(fd: int) -> str:
    """The messages that the kernel keeps for the reader of an fsopen descriptor (`e overlay: ...`)."""
    lines = []
    while True:
        try:
            lines.append(os.read(fd, 4096).decode("utf-8", "replace").strip())
        except OSError:
            return "; ".join(lines)


def _error(call: str, path: str | None = None) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}", path)
