import pytest

from lxdpy.drivers.base import Compression
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services.compression import parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gzip", Compression("gzip")),
        ("gzip -9", Compression("gzip", 9)),
        ("zstd -19", Compression("zstd", 19)),
        ("none", Compression("none")),
        ("tar2sqfs", Compression("squashfs")),
        ("pigz -1", Compression("gzip", 1)),
    ],
)
def test_an_algorithm_may_have_a_level(text: str, expected: Compression) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["rot13", "gzip -10", "gzip --fast", "gzip -1 -2", "xz -0", "none -1", "gzip '", "xz -9e"]
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse(text)
    with pytest.raises(UnsupportedError):
        parse("lz4")
