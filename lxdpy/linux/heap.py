"""The C library's heap of a process that forks: let its children allocate side by side."""

from __future__ import annotations

import ctypes

_ABOVE_HOLES_BYTES = 100_000
_LARGEST_HOLE_BYTES = 1016
_STEP_BYTES = 16

_malloc = ctypes.CDLL(None).malloc
_malloc.argtypes = (ctypes.c_size_t,)
_malloc.restype = ctypes.c_size_t


def fill_holes() -> None:
    """Allocate, for good, what was freed between blocks in use.

    A child that fills them would get a page of its own for each hole; now it fills fresh pages one by one.
    """
    top = _malloc(_ABOVE_HOLES_BYTES)
    for size in range(_LARGEST_HOLE_BYTES, 0, -_STEP_BYTES):
        while 0 < _malloc(size) < top:
            pass
