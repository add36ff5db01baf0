"""Redirects, retries and rate limits, without a network."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lxdpy.drivers.base import BlobEndpoint
from lxdpy.drivers.registry.transport import (
    MAX_ATTEMPTS,
    MAX_REDIRECTS,
    next_location,
    rate_limit,
    redact,
    retry_after,
    retry_delay,
    same_origin,
    ssl_context,
)
from lxdpy.errors import RegistryError


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a/v2/x", "https://cdn/y?sig=1", "https://cdn/y?sig=1"),
        ("https://a/v2/x", "/y", "https://a/y"),
        ("https://a/v2/x", "y", "https://a/v2/y"),
        ("https://a/v2/x", "//cdn/y", "https://cdn/y"),
        ("http://a/v2/x", "https://a/y", "https://a/y"),
    ],
)
def test_redirects(url: str, location: str, target: str) -> None:
    assert next_location(url, location, 0) == target


@pytest.mark.parametrize(
    ("location", "hops", "why"),
    [
        (None, 0, "no Location"),
        ("", 0, "no Location"),
        ("http://a/y", 0, "from https to http"),
        ("ftp://a/y", 0, "no http or https"),
        ("file:///etc/passwd", 0, "no http or https"),
        ("https://a:99999/y", 0, "invalid Location"),
        ("https://[/y", 0, "invalid Location"),
        ("/y", MAX_REDIRECTS, "in a row"),
    ],
)
def test_redirects_not_followed(location: str | None, hops: int, why: str) -> None:
    with pytest.raises(RegistryError, match=why) as caught:
        next_location("https://a/v2/x?signature=secret", location, hops)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("https://a/x", "https://a:443/y", True),
        ("https://a/x", "https://A/y", True),
        ("https://a/x", "https://a:444/y", False),
        ("https://a/x", "http://a/x", False),
        ("https://a/x", "https://b/x", False),
        ("https://a.b/x", "https://b/x", False),
    ],
)
def test_same_origin(first: str, second: str, same: bool) -> None:
    assert same_origin(first, second) is same


def test_delays_grow_and_end() -> None:
    delays = [retry_delay(attempt) for attempt in range(1, MAX_ATTEMPTS)]
    assert all(delay is not None and 0.375 * 2**i <= delay <= 0.625 * 2**i for i, delay in enumerate(delays))
    assert retry_delay(MAX_ATTEMPTS) is None


def test_a_server_may_say_when() -> None:
    assert retry_delay(1, {"retry-after": "7"}) == 7
    assert retry_delay(1, {"retry-after": "3600"}) is None
    assert retry_delay(MAX_ATTEMPTS, {"retry-after": "1"}) is None
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (retry_after({"retry-after": soon}) or 0) <= 30
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_rate_limit_tells_what_to_do() -> None:
    text = rate_limit("docker.io", {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"})
    assert "limit 100 pulls in 6 h" in text
    assert "0 remaining" in text
    assert "log in to docker.io" in text
    assert "try again in 90 s" in rate_limit("docker.io", {"retry-after": "90"})


def test_redact() -> None:
    assert redact("https://user:secret@a:1/x?signature=secret#secret") == "https://a:1/x"


def test_ssl_context_names_the_file_that_will_not_do(tmp_path: object) -> None:
    missing = f"{tmp_path}/none.pem"
    with pytest.raises(RegistryError, match=r"CA file .*none\.pem"):
        ssl_context(BlobEndpoint("https://a", {}, ca_file=missing))
    with pytest.raises(RegistryError, match=r"client certificate .*none\.pem"):
        ssl_context(BlobEndpoint("https://a", {}, client_cert=missing))
    assert ssl_context(BlobEndpoint("https://a", {})).verify_mode is ssl.CERT_REQUIRED
    assert ssl_context(BlobEndpoint("https://a", {}, verify=False)).verify_mode is ssl.CERT_NONE
