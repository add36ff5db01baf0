"""Holes of the heap are gone once filled: small blocks lie side by side."""

import subprocess
import sys

SCRIPT = """
import ctypes
from lxdpy.linux import heap
malloc = heap._malloc
free = ctypes.CDLL(None).free
free.argtypes = (ctypes.c_size_t,)
blocks = [malloc(200) for _ in range(2000)]
for block in blocks[::2]:
    free(block)
end = malloc(100_000)
heap.fill_holes()
got = [malloc(size) for size in (24, 100, 200, 500) * 10]
assert min(got) > end, "a hole is left"
assert max(got) - min(got) < 40_000, "blocks lie apart"
"""


def test_holes_are_filled() -> None:
    subprocess.run([sys.executable, "-I", "-c", SCRIPT], check=True, timeout=60)
