"""What every HTTP request to a registry follows, whoever sends it: TLS, redirects, retries.

Knows no HTTP library, and neither waits nor connects: the daemon's client and the layer worker both stand on it.
Headers are mappings with case-insensitive lookup (httpx.Headers), or with lower-case names.
"""

import random
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from lxdpy.errors import RegistryError

IDLE_TIMEOUT_S = 30.0
"""How long a peer may stay silent; there is no limit on a whole transfer."""
CONNECT_TIMEOUT_S = 10.0
MAX_ATTEMPTS = 5
MAX_REDIRECTS = 5
MAX_RETRY_DELAY_S = 60.0

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

_PORTS = {"http": 80, "https": 443}


class TlsSettings(Protocol):
    """How to verify a server, and what to show it; a BlobEndpoint is one."""

    @property
    def verify(self) -> bool:
        """Whether the server's certificate must be good."""

    @property
    def ca_file(self) -> str | None:
        """More CA certificates: a PEM file, or a directory of `*.crt`."""

    @property
    def client_cert(self) -> str | None:
        """A PEM certificate to show."""

    @property
    def client_key(self) -> str | None:
        """Its key, when that is in another file."""


def ssl_context(settings: TlsSettings, ca_data: str | None = None) -> ssl.SSLContext:
    """A TLS context: the system's CAs and those of `settings`; or only the certificates in `ca_data` (PEM), and the
    server's own may be among them. Raises RegistryError naming a file that won't do."""
    if settings.verify and ca_data:
        context = _trusting(ca_data)
    elif settings.verify:
        context = ssl.create_default_context()
    else:
        # Without the system's CAs, which take longer to read than a connection to make.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in _ca_files(settings.ca_file) if settings.verify else ():
        try:
            context.load_verify_locations(cafile=path)
        except OSError as exc:
            raise RegistryError(f"Cannot use CA file {path}: {exc}") from exc
    if settings.client_cert is not None:
        try:
            context.load_cert_chain(settings.client_cert, settings.client_key)
        except OSError as exc:
            raise RegistryError(f"Cannot use client certificate {settings.client_cert}: {exc}") from exc
    return context


def _trusting(ca_data: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca_data)
    except (ssl.SSLError, ValueError) as exc:
        raise RegistryError(f"Cannot use the server's certificate: it is no PEM certificate ({exc})") from exc
    # The certificate of the server itself will do, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def next_location(url: str, location: str | None, hops: int) -> str:
    """Where a redirect of `url` leads, `hops` redirects having been followed before.

    The Authorization header may go along only when `same_origin` says so. Raises RegistryError for a redirect without
    a location, to something else than http or https, from https to http, or too many of them.
    """
    if hops >= MAX_REDIRECTS:
        raise RegistryError(f"Cannot follow the redirect of {redact(url)}: more than {MAX_REDIRECTS} in a row")
    if not location:
        raise RegistryError(f"Cannot follow the redirect of {redact(url)}: it has no Location")
    try:
        target = urljoin(url, location)
        origin = _origin(target)
    except ValueError as exc:
        raise RegistryError(f"Cannot follow the redirect of {redact(url)}: invalid Location") from exc
    if origin is None:
        raise RegistryError(f"Cannot follow the redirect of {redact(url)}: Location is no http or https URL")
    if urlsplit(url).scheme == "https" and origin[0] != "https":
        raise RegistryError(f"Cannot follow the redirect of {redact(url)}: it leads from https to http")
    return target


def same_origin(first: str, second: str) -> bool:
    """Whether two URLs have scheme, host and port in common, so that what is secret to one may be told the other."""
    origin = _origin(first)
    return origin is not None and origin == _origin(second)


def retry_delay(attempt: int, headers: Mapping[str, str] | None = None) -> float | None:
    """Seconds to wait after failed attempt number `attempt` (from 1), or None to give up.

    Exponential with jitter from 0.5 s, or what Retry-After in `headers` says; a server that wants more than
    MAX_RETRY_DELAY_S is not waited for.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    wanted = retry_after(headers) if headers is not None else None
    if wanted is not None:
        return wanted if wanted <= MAX_RETRY_DELAY_S else None
    return float(min(0.5 * 2 ** (attempt - 1), MAX_RETRY_DELAY_S) * random.uniform(0.75, 1.25))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds from now (it may be a number or a date), or None when absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def rate_limit(host: str, headers: Mapping[str, str]) -> str:
    """What a client should know of a 429 of `host`: limit, window, what remains, when to come back, how to get more."""
    facts = []
    limit, _, window = headers.get("ratelimit-limit", "").partition(";w=")
    if limit:
        hours = f" in {int(window) / 3600:g} h" if window.isascii() and window.isdigit() else ""
        facts.append(f"limit {limit} pulls{hours}")
    remaining = headers.get("ratelimit-remaining", "").partition(";")[0]
    if remaining:
        facts.append(f"{remaining} remaining")
    if (wanted := retry_after(headers)) is not None:
        facts.append(f"try again in {wanted:.0f} s")
    details = f" ({', '.join(facts)})" if facts else ""
    return f"{host} limits the rate of pulls{details}: log in to {host}, set a mirror, or wait"


def redact(url: str) -> str:
    """`url` without query and user: signed URLs carry their secret there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _ca_files(ca_file: str | None) -> list[Path]:
    if ca_file is None:
        return []
    path = Path(ca_file)
    return sorted(path.glob("*.crt")) if path.is_dir() else [path]


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None when it is no http or https URL."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
