"""ETags are stable, and If-Match is checked against them."""

import pytest
from fastapi import Request

from lxdpy.api.etag import check_if_match, etag
from lxdpy.errors import PreconditionFailedError


def request(if_match: str | None) -> Request:
    headers = [] if if_match is None else [(b"if-match", if_match.encode())]
    return Request({"type": "http", "headers": headers})


def test_order_of_keys_does_not_matter() -> None:
    assert etag({"a": 1, "b": [1]}) == etag({"b": [1], "a": 1})
    assert etag({"a": 1}) != etag({"a": 2})
    assert etag({}).startswith('"')
    assert len(etag({})) == 66


@pytest.mark.parametrize("header", [None, "", "*", etag(1), etag(1).strip('"'), f"W/{etag(1)}", f'"x", {etag(1)}'])
def test_match(header: str | None) -> None:
    check_if_match(request(header), 1)


def test_mismatch() -> None:
    with pytest.raises(PreconditionFailedError, match="ETag doesn't match"):
        check_if_match(request(etag(2)), 1)
