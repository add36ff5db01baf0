"""Fetch one blob into a feed: endpoints in order, resumed where it broke off, verified against its descriptor.

    attempt ── GET, Range from what is there ── 200/206 ── bytes ──> file, sha256 ── size and digest ── end
       ^          │ 307: follow, Authorization stays   │ cut, silent, 5xx, 429
       │          │ 401: the daemon renews             │
       └──────────┴─────────── back off ───────────────┘    out of attempts: the next endpoint

http.client, and not httpx: a blob is bytes from a socket to a file, and costs a tenth of the CPU time here.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import closing
from urllib.parse import unquote, urlsplit

from lxdpy.drivers.base import BlobEndpoint
from lxdpy.drivers.registry.transport import (
    CONNECT_TIMEOUT_S,
    REDIRECT_STATUSES,
    RETRY_STATUSES,
    next_location,
    rate_limit,
    redact,
    retry_delay,
    same_origin,
    ssl_context,
)
from lxdpy.errors import AccessDeniedError, DigestMismatchError, RegistryError
from lxdpy.workers.layers.feed import CHUNK_BYTES, Feed

Renew = Callable[[BlobEndpoint, Sequence[str]], BlobEndpoint]
"""Ask the daemon for fresh credentials. Raises AccessDeniedError and others."""

# A transfer that came this much further is not failing: its attempts are counted anew.
_PROGRESS_BYTES = 1 << 20
_CONNECT_ATTEMPTS = 3
_CONNECT_DELAY_S = 0.25
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _BrokenError(Exception):
    """This attempt failed, and another may not; `headers` may say when."""

    def __init__(
        self, reason: str, headers: http.client.HTTPMessage | None = None, *, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.headers = headers
        self.unreachable = unreachable

    def delay(self, attempt: int) -> float | None:
        """Seconds to wait after failed attempt number `attempt`; None to give up."""
        if self.unreachable:
            # Nobody listens: wait for a restart at most, there may be another endpoint.
            return _CONNECT_DELAY_S if attempt < _CONNECT_ATTEMPTS else None
        return retry_delay(attempt, _lower(self.headers))


class Fetch:
    """One blob of `size` bytes and digest `digest` on its way into `feed`, which may have its first part already."""

    def __init__(
        self,
        feed: Feed,
        digest: str,
        size: int,
        *,
        renew: Renew,
        progress: Callable[[int], None],
        idle_timeout_s: float,
    ) -> None:
        self._feed = feed
        self._digest = digest
        self._size = size
        self._renew = renew
        self._progress = progress
        self._idle_timeout_s = idle_timeout_s
        self._hash = hashlib.new(digest.partition(":")[0])
        self._hashed = 0

    def run(self, endpoints: Sequence[BlobEndpoint]) -> None:
        """Fetch what is missing and verify the whole.

        Raises DigestMismatchError, AccessDeniedError, RegistryError, OSError of the local disk.
        """
        self._hash_what_is_there()
        if self._feed.available < self._size:
            self._fetch(endpoints)
        self._verify()

    def _hash_what_is_there(self) -> None:
        while self._hashed < self._feed.available:
            chunk = os.pread(self._feed.fd, min(1 << 20, self._feed.available - self._hashed), self._hashed)
            self._hash.update(chunk)
            self._hashed += len(chunk)
            self._progress(self._hashed)

    def _verify(self) -> None:
        if self._hashed != self._size:
            raise DigestMismatchError(f"Blob {self._digest} has {self._hashed} bytes, and not {self._size}")
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if found != self._digest:
            raise DigestMismatchError(f"Blob {self._digest} has another digest: {found}")

    def _fetch(self, endpoints: Sequence[BlobEndpoint]) -> None:
        failure: RegistryError | AccessDeniedError | None = None
        for endpoint in endpoints:
            try:
                self._fetch_from(endpoint)
                return
            except (RegistryError, AccessDeniedError) as exc:
                failure = exc
        raise failure or RegistryError(f"Cannot fetch blob {self._digest}: there is no endpoint that has it")

    def _fetch_from(self, endpoint: BlobEndpoint) -> None:
        context = ssl_context(endpoint, endpoint.ca_data)
        attempt = 1
        renewed = False
        while True:
            start = self._hashed
            try:
                challenges = self._attempt(endpoint, context)
                if challenges is None:
                    return
                if renewed and self._hashed == start:
                    raise AccessDeniedError(f"Access to {redact(endpoint.url)} is denied: log in to the registry")
                endpoint = self._renew(endpoint, challenges)
                renewed = True
                continue
            except _BrokenError as exc:
                if self._hashed - start >= _PROGRESS_BYTES:
                    attempt, renewed = 1, False
                delay = exc.delay(attempt)
                if delay is None:
                    raise RegistryError(f"Cannot fetch {redact(endpoint.url)}: {exc}") from exc.__cause__
            time.sleep(delay)
            attempt += 1

    def _attempt(self, endpoint: BlobEndpoint, context: ssl.SSLContext) -> Sequence[str] | None:
        """Fetch the rest; None when it is here, or the challenges of a 401. Raises _BrokenError, RegistryError."""
        url = endpoint.url
        headers = {
            **endpoint.headers,
            "User-Agent": "lxdpy",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if self._hashed:
            headers["Range"] = f"bytes={self._hashed}-"
        hops = 0
        while True:
            connection, target, proxy_headers = _route(url, context, min(CONNECT_TIMEOUT_S, self._idle_timeout_s))
            with closing(connection):
                _connect(connection, url)
                connection.sock.settimeout(self._idle_timeout_s)
                try:
                    connection.request("GET", target, headers={**headers, **proxy_headers})
                    response = connection.getresponse()
                except (OSError, http.client.HTTPException) as exc:
                    raise _BrokenError(_reason(exc, self._idle_timeout_s)) from exc
                with closing(response):
                    if response.status in REDIRECT_STATUSES:
                        location = next_location(url, response.getheader("Location"), hops)
                        if not same_origin(url, location):
                            headers = {name: headers[name] for name in headers if name.lower() != "authorization"}
                        url, hops = location, hops + 1
                        continue
                    # Who else asks for a login, after a redirect, has no say in where the password goes.
                    if response.status == 401 and same_origin(endpoint.url, url):
                        return response.headers.get_all("WWW-Authenticate", [])
                    self._receive(url, response, redirected=hops > 0)
                    return None

    def _receive(self, url: str, response: http.client.HTTPResponse, *, redirected: bool) -> None:
        surplus = self._check(url, response, redirected=redirected)
        while True:
            try:
                chunk = response.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as exc:
                raise _BrokenError(_reason(exc, self._idle_timeout_s)) from exc
            if not chunk:
                break
            if surplus:
                # The server sends from the start what is here already.
                chunk, surplus = chunk[surplus:], max(0, surplus - len(chunk))
                if not chunk:
                    continue
            if self._hashed + len(chunk) > self._size:
                raise DigestMismatchError(f"Blob {self._digest} is larger than its {self._size} bytes")
            self._hash.update(chunk)
            self._feed.append(chunk)
            self._hashed += len(chunk)
            self._progress(self._hashed)
        if self._hashed < self._size:
            raise _BrokenError(f"it ended after {self._hashed} of {self._size} bytes")

    def _check(self, url: str, response: http.client.HTTPResponse, *, redirected: bool) -> int:
        """How many bytes to skip of an answer that will do. Raises _BrokenError, RegistryError, AccessDeniedError."""
        status = response.status
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if status in (200, 206) and encoding != "identity":
            raise RegistryError(f"Cannot fetch {redact(url)}: it comes with Content-Encoding {encoding:.40}")
        if status == 200:
            length = response.length
            if length is not None and length != self._size:
                raise DigestMismatchError(f"Blob {self._digest} has {length} bytes at {redact(url)}, not {self._size}")
            return self._hashed
        if status == 206:
            unit, _, rest = response.headers.get("Content-Range", "").strip().partition(" ")
            position, _, total = rest.partition("/")
            if (
                unit != "bytes"
                or position.partition("-")[0] != str(self._hashed)
                or total not in ("*", str(self._size))
            ):
                raise RegistryError(f"Cannot resume {redact(url)}: the answer's range is {rest!r:.80}")
            return 0
        if status == 403 and not redirected:
            raise AccessDeniedError(f"Access to {redact(url)} is denied")
        if status == 429:
            raise _BrokenError(rate_limit(urlsplit(url).netloc, _lower(response.headers) or {}), response.headers)
        # What a redirect leads to is signed, and may have expired: the registry gives another.
        if status in RETRY_STATUSES or (redirected and status in (400, 403)):
            raise _BrokenError(f"the answer is {status} {response.reason:.80}", response.headers)
        raise RegistryError(f"Cannot fetch {redact(url)}: the answer is {status} {response.reason:.80}")


def _route(
    url: str, context: ssl.SSLContext, timeout_s: float
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """A connection towards `url`, what to ask for on it, with which more headers. Follows the environment's proxies."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    proxy = None
    if host not in _LOOPBACK and not urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy:
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port, context=context, timeout=timeout_s), target, {}
        return http.client.HTTPConnection(host, parts.port, timeout=timeout_s), target, {}
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = {}
    if via.username is not None:
        user = f"{unquote(via.username)}:{unquote(via.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {b64encode(user).decode()}"
    if parts.scheme == "http":
        return http.client.HTTPConnection(via.hostname or "", via.port, timeout=timeout_s), url, headers
    connection = http.client.HTTPSConnection(via.hostname or "", via.port, context=context, timeout=timeout_s)
    connection.set_tunnel(host, parts.port, headers)
    return connection, target, {}


def _connect(connection: http.client.HTTPConnection, url: str) -> None:
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as exc:
        raise RegistryError(f"Cannot reach {host}: its certificate is not valid: {exc.verify_message}") from exc
    except ssl.SSLError as exc:
        raise RegistryError(f"Cannot reach {host}: no TLS with it: {exc.reason or exc}") from exc
    except OSError as exc:
        raise _BrokenError(_reason(exc, connection.timeout or 0), unreachable=True) from exc


def _lower(headers: http.client.HTTPMessage | None) -> dict[str, str] | None:
    return {name.lower(): value for name, value in headers.items()} if headers is not None else None


def _reason(exc: Exception, idle_timeout_s: float) -> str:
    if isinstance(exc, TimeoutError):
        return f"it is silent for {idle_timeout_s:g} s"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return f"{type(exc).__name__} {exc}".strip()
