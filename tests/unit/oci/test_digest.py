"""Digests are safe in a URL and in a path, or refused."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.errors import InvalidRequestError
from lxdpy.oci.digest import Digest


@given(st.binary())
def test_what_it_is_of_matches(data: bytes) -> None:
    digest = Digest.of(data)
    assert digest.matches(data)
    assert not digest.matches(data + b"x")
    assert Digest.parse(str(digest)) == digest
    assert Digest.parse(f"sha512:{hashlib.sha512(data).hexdigest()}").matches(data)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidRequestError:
        return
    assert re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", str(digest))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 64 + "\n",
        "md5:" + "a" * 32,
        "sha256:../../../../etc/passwd",
        "sha512:" + "a" * 64,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid digest"):
        Digest.parse(text)
