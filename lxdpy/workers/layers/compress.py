"""Compress what is packed: the stream is written to a file, counted and hashed."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import zlib
from typing import Protocol

import zstandard
from isal import isal_zlib

from lxdpy.errors import UnsupportedError

_GZIP = 16 + 15
"""zlib's window bits for a gzip stream."""
_ISAL_LEVELS = 3


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class Output:
    """The file `fd`, written through compression `name` at `level` (None: its default). Raises UnsupportedError."""

    def __init__(self, fd: int, name: str, level: int | None) -> None:
        self._fd = fd
        self._compressor = _compressor(name, level)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add to the stream. Raises OSError."""
        self._put(self._compressor.compress(data))

    def finish(self) -> str:
        """End the stream, and have it on disk: hex of the file's SHA-256. Raises OSError."""
        self._put(self._compressor.flush())
        os.fsync(self._fd)
        return self._hash.hexdigest()

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def _compressor(name: str, level: int | None) -> _Compressor:
    match name:
        case "none":
            return _Plain()
        case "gzip" if level is None or level <= _ISAL_LEVELS:
            # Several times as fast as zlib, and a little less dense.
            compressor: _Compressor = isal_zlib.compressobj(_ISAL_LEVELS if level is None else level, wbits=_GZIP)
            return compressor
        case "gzip" if level is not None:
            return zlib.compressobj(level, wbits=_GZIP)
        case "bzip2":
            return bz2.BZ2Compressor(level or 9)
        case "xz":
            return lzma.LZMACompressor(lzma.FORMAT_XZ, preset=level)
        case "lzma":
            return lzma.LZMACompressor(lzma.FORMAT_ALONE, preset=level)
        case "zstd":
            return zstandard.ZstdCompressor(level=level or 3).compressobj()
    raise UnsupportedError(f'Cannot compress by "{name}"')
