"""gzip, zstd and plain streams, whole, in pieces, damaged, and bombs."""

import gzip
import os
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.errors import LayerError
from lxdpy.workers.layers.inflate import PIECE_BYTES, inflate

TEXT = b"layers and layers of text " * 5000
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("chunk", [1, 3, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", b""),
        (b"ab", b"ab"),
        (TEXT, TEXT),
        (gzip.compress(TEXT), TEXT),
        (gzip.compress(b""), b""),
        (gzip.compress(TEXT) + gzip.compress(b"more"), TEXT + b"more"),
        (gzip.compress(TEXT) + bytes(3000), TEXT),
        (zstandard.compress(TEXT), TEXT),
        (zstandard.compress(TEXT) + zstandard.compress(b"more"), TEXT + b"more"),
        (SKIPPABLE + zstandard.compress(TEXT) + SKIPPABLE, TEXT),
    ],
)
def test_streams(stream: bytes, expected: bytes, chunk: int) -> None:
    assert b"".join(inflate(chunked(stream, chunk))) == expected


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
@pytest.mark.parametrize(
    "stream",
    [
        b"\x1f\x8b",
        gzip.compress(TEXT)[:-1],
        gzip.compress(TEXT)[:-9],
        gzip.compress(TEXT)[:-8] + b"wrongsum",
        gzip.compress(TEXT) + b"junk",
        gzip.compress(TEXT) + bytes(2000) + b"junk",
        gzip.compress(TEXT) + b"\x1f",
        b"\x1f\x8b\x08" + bytes(200),
        zstandard.compress(TEXT) + b"junk!",
        zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)[:-1] + b"?",
        b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
    ],
)
def test_damage(stream: bytes, chunk: int) -> None:
    with pytest.raises(LayerError):
        for _ in inflate(chunked(stream, chunk)):
            pass


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_bombs_come_in_pieces(compress: type) -> None:
    bomb = compress(bytes(64 << 20))
    pieces = inflate([bomb])
    assert max(len(next(pieces)) for _ in range(8)) <= PIECE_BYTES


def test_zstd_window_is_limited() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, strategy=1, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    stream = compressor.compress(os.urandom(1000)) + compressor.flush()
    with pytest.raises(LayerError):
        list(inflate([stream]))


@given(st.lists(st.binary(max_size=5000), max_size=4), st.integers(1, 700))
def test_members_make_one_stream(parts: list[bytes], chunk: int) -> None:
    for compress in (gzip.compress, zstandard.compress):
        stream = b"".join(compress(part) for part in parts)
        assert b"".join(inflate(chunked(stream, chunk))) == b"".join(parts)
