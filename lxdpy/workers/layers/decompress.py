"""Uncompress the file of an LXD image: all that `inflate` knows, xz, lzma and bzip2, told by the first bytes.

As there, output comes in bounded pieces, and what may follow a stream is another stream or zeros.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from lxdpy.errors import LayerError
from lxdpy.workers.layers.inflate import PIECE_BYTES, inflate

SQUASHFS_MAGIC = b"hsqs"

_XZ_MAGIC = b"\xfd7zXZ\0"
_BZIP2_MAGIC = b"BZh"
_LZMA_MAGIC = b"\x5d\x00\x00"
_TAR_MAGIC = b"ustar"
_TAR_MAGIC_AT = 257
_HEAD_BYTES = 512
# xz -9 takes 65 MiB; larger dictionaries need memory that nobody agreed to give.
_LZMA_MEMORY_BYTES = 256 << 20


def decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The uncompressed stream. Raises LayerError for damaged input."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    ahead = _chain(head, source)
    # A file may be called BZh.
    if head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        return ahead
    if head.startswith(_XZ_MAGIC):
        return _streams(ahead, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES))
    if head.startswith(_LZMA_MAGIC):
        return _streams(ahead, lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY_BYTES))
    if head.startswith(_BZIP2_MAGIC):
        return _streams(ahead, bz2.BZ2Decompressor)
    return inflate(ahead)


def _chain(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from source


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _streams(source: Iterator[bytes], make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    data = next(source, b"")
    while data:
        if data.startswith(b"\0"):
            data = data.lstrip(b"\0") or next(source, b"")
            continue
        stream = make()
        try:
            while True:
                piece = stream.decompress(data, PIECE_BYTES)
                if piece:
                    yield piece
                if stream.eof:
                    break
                data = b""
                if stream.needs_input:
                    data = next(source, b"")
                    if not data:
                        raise LayerError("Malformed image: its compressed stream is cut off")
        except (lzma.LZMAError, OSError, ValueError) as exc:
            raise LayerError(f"Malformed image: {exc}") from exc
        data = stream.unused_data or next(source, b"")
