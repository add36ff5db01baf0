"""Uncompress a layer: gzip (igzip, with SIMD), zstd, or plain tar, told by the first bytes and not by its media type.

Output comes in bounded pieces, so that a bomb costs time and never memory. Several gzip members or zstd frames make
one stream, as their formats have it. Zeros may pad the end of gzip; other junk is refused. A zstd stream that is cut
off just ends early: that is for the tar reader, or the digest, to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, cast

import zstandard
from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError

from lxdpy.errors import LayerError

PIECE_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
# What `zstd --ultra --long=27` writes; larger windows need memory that nobody agreed to give.
_ZSTD_WINDOW_BYTES = 128 << 20


def inflate(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The uncompressed stream, in pieces of up to PIECE_BYTES. Raises LayerError for damaged input."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= len(_ZSTD_MAGIC):
            break
    if head.startswith(_GZIP_MAGIC):
        return _gunzip(head, source)
    if head.startswith(_ZSTD_MAGIC) or int.from_bytes(head[:4], "little") in _ZSTD_SKIPPABLE:
        return _unzstd(head, source)
    return _plain(head, source)


def _plain(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from source


def _gunzip(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    data = head
    while data:
        if data.startswith(b"\0"):
            _only_zeros(data, source)
            return
        member = IgzipDecompressor(DECOMP_GZIP)
        try:
            while True:
                piece = member.decompress(data, PIECE_BYTES)
                if piece:
                    yield piece
                if member.eof:
                    break
                data = b""
                if member.needs_input:
                    data = next(source, b"")
                    if not data:
                        raise LayerError("Malformed layer: its gzip stream is cut off")
        except IsalError as exc:  # type: ignore[misc]  # a class, whatever the stub says
            raise LayerError(f"Malformed layer: {exc}") from exc
        data = member.unused_data or next(source, b"")


def _only_zeros(data: bytes, source: Iterator[bytes]) -> None:
    while data:
        if data.count(0) != len(data):
            raise LayerError("Malformed layer: there is junk after its gzip stream")
        data = next(source, b"")


def _unzstd(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(
        cast(IO[bytes], _File(head, source)),
        read_size=zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE,
        read_across_frames=True,
    )
    try:
        while piece := reader.read(PIECE_BYTES):
            yield piece
    except zstandard.ZstdError as exc:
        raise LayerError(f"Malformed layer: {exc}") from exc


class _File:
    """What zstandard reads from."""

    def __init__(self, head: bytes, source: Iterator[bytes]) -> None:
        self._data = memoryview(head)
        self._source = source

    def read(self, size: int) -> bytes | memoryview:
        if not self._data:
            self._data = memoryview(next(self._source, b""))
        part, self._data = self._data[:size], self._data[size:]
        return part
