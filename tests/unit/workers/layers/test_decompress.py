import bz2
import gzip
import lzma

import pytest
import zstandard

from lxdpy.errors import LayerError
from lxdpy.workers.layers.decompress import decompress
from tests.fakes.tars import Tar

DATA = Tar().file("a", bytes(range(256)) * 5000).bytes()


def stream(data: bytes, size: int = 1000) -> bytes:
    return b"".join(decompress(data[start : start + size] for start in range(0, len(data), size)))


@pytest.mark.parametrize(
    "packed",
    [
        DATA,
        gzip.compress(DATA),
        bz2.compress(DATA),
        lzma.compress(DATA),
        lzma.compress(DATA, lzma.FORMAT_ALONE),
        zstandard.compress(DATA),
        lzma.compress(DATA[:1000]) + lzma.compress(DATA[1000:]),
        lzma.compress(DATA) + bytes(8),
        bz2.compress(DATA[:1000]) + bz2.compress(DATA[1000:]),
    ],
)
def test_every_format_is_known_by_its_first_bytes(packed: bytes) -> None:
    assert stream(packed) == DATA
    assert stream(packed, 1 << 20) == DATA


@pytest.mark.parametrize("name", ["BZh91", "\x5d"])
def test_a_plain_tar_is_plain_whatever_its_first_file_is_called(name: str) -> None:
    data = Tar().file(name, b"x").bytes()
    assert stream(data) == data


@pytest.mark.parametrize("packed", [bz2.compress(DATA), lzma.compress(DATA)])
def test_damage_is_told(packed: bytes) -> None:
    with pytest.raises(LayerError, match="cut off"):
        stream(packed[:-20])
    with pytest.raises(LayerError, match="Malformed image"):
        stream(packed + b"junk")


def test_pieces_are_bounded_and_memory_is_limited() -> None:
    zeros = lzma.compress(bytes(50 << 20))
    assert max(map(len, decompress([zeros]))) <= 1 << 20
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    with pytest.raises(LayerError, match="Malformed image"):
        stream(greedy)
