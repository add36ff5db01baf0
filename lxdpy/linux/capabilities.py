"""Capabilities (capabilities(7)) and no_new_privs of the calling thread."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_SYS_ADMIN = 21
CAP_MKNOD = 27
CAP_SETFCAP = 31

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.capset.argtypes = (ctypes.POINTER(_Header), ctypes.POINTER(_Data))
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def set_no_new_privs() -> None:
    """Never gain privileges by execve again. Raises OSError."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _error("prctl PR_SET_NO_NEW_PRIVS")


def keep_only(capabilities: Collection[int]) -> None:
    """Drop all other capabilities from every set, the bounding set included. Raises OSError."""
    for capability in range(_last_capability() + 1):
        if capability not in capabilities and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise _error(f"prctl PR_CAPBSET_DROP {capability}")
    mask = sum(1 << capability for capability in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (_Data * 2)(_Data(low, low, 0), _Data(high, high, 0))
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data) != 0:
        raise _error("capset")


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def _error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")
