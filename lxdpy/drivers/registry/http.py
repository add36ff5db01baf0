"""One HTTP request to a registry, answered whole: redirects, retries, limits, errors that name host and cause.

httpx is imported by the first request: a daemon that has never pulled does not pay for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import lxdpy
from lxdpy.drivers.registry.hosts import Host
from lxdpy.drivers.registry.transport import (
    CONNECT_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    MAX_ATTEMPTS,
    REDIRECT_STATUSES,
    RETRY_STATUSES,
    next_location,
    redact,
    retry_after,
    retry_delay,
    same_origin,
    ssl_context,
)
from lxdpy.errors import RegistryError

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_ERROR_BYTES = 64 << 10

_PROBE_TIMEOUT_S = 3.0
_CONNECT_ATTEMPTS = 3
_CONNECT_DELAY_S = 0.25
_TIMEOUT_ATTEMPTS = 2
# X509_V_ERR_*: nobody known has signed it: no issuer, self-signed, self-signed in the chain, no issuer here.
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20})

_Delay = Callable[[int], float | None]
_TlsKey = tuple[bool, str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `headers` are looked up in any case. The body of an error is cut off at MAX_ERROR_BYTES."""

    url: str
    status: int
    headers: httpx.Headers
    body: bytes

    def challenges(self) -> tuple[str, ...]:
        """The WWW-Authenticate values."""
        return tuple(self.headers.get_list("www-authenticate"))

    def content_type(self) -> str:
        """The media type without parameters."""
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()


class Http:
    """Requests to any host, over one pool of connections for each kind of TLS settings."""

    def __init__(self, *, idle_timeout_s: float = IDLE_TIMEOUT_S) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._clients: dict[_TlsKey, httpx.AsyncClient] = {}
        self._schemes: dict[str, str] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.aclose()

    async def base_url(self, host: Host) -> str:
        """`https://HOST[:PORT]`, or http where the host speaks that. Raises RegistryError when it can't be reached."""
        if len(host.schemes) == 1:
            return f"{host.schemes[0]}://{host.address}"
        scheme = self._schemes.get(host.address)
        if scheme is None:
            scheme = "https" if await _speaks_tls(host) else "http"
            self._schemes[host.address] = scheme
        return f"{scheme}://{host.address}"

    def forget(self, host: Host) -> None:
        """Find out anew what the host speaks."""
        self._schemes.pop(host.address, None)

    async def fetch(
        self,
        url: str,
        host: Host,
        *,
        limit: int,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        attempts: int = MAX_ATTEMPTS,
    ) -> Response:
        """Send one request with the TLS settings of `host`, and read at most `limit` bytes of its answer.

        Redirects of a GET are followed, and Authorization goes along only within the same scheme, host and port. What
        may pass (no connection, a cut answer, 429, 5xx) is tried again. Error answers are returned; RegistryError is
        raised when there is none.
        """
        attempt = 1
        while True:
            try:
                response = await self._follow(url, host, limit, method, dict(headers or {}), form)
            except _TransientError as exc:
                delay = exc.delay(attempt) if attempt < attempts else None
                if delay is None:
                    raise RegistryError(f"Cannot reach {_authority(exc.url)}: {exc}") from exc.__cause__
                logger.debug("Attempt %d at %s failed, again in %.1f s: %s", attempt, redact(exc.url), delay, exc)
            else:
                wait = _wait(response, attempt) if attempt < attempts else None
                if wait is None:
                    return response
                delay = wait
                logger.debug("%s answered %d, again in %.1f s", redact(response.url), response.status, delay)
            await asyncio.sleep(delay)
            attempt += 1

    async def _follow(
        self, url: str, host: Host, limit: int, method: str, headers: dict[str, str], form: Mapping[str, str] | None
    ) -> Response:
        hops = 0
        while True:
            response = await self._send(url, host, limit, method, headers, form)
            if response.status not in REDIRECT_STATUSES or method != "GET":
                return response
            target = next_location(url, response.headers.get("location"), hops)
            if not same_origin(url, target):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url, hops = target, hops + 1

    async def _send(
        self, url: str, host: Host, limit: int, method: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Response:
        import httpx

        client = self._client(host)
        try:
            async with client.stream(method, url, headers=headers, data=form) as answer:
                body = await _read(answer, limit)
                return Response(url, answer.status_code, answer.headers, body)
        except httpx.ConnectError as exc:
            raise _TransientError(url, _reason(exc), None if _is_tls(exc) else _connect_delay) from exc
        except httpx.TimeoutException as exc:
            wait = CONNECT_TIMEOUT_S if isinstance(exc, httpx.ConnectTimeout) else self._idle_timeout_s
            raise _TransientError(url, f"it was silent for {wait:g} s", _timeout_delay) from exc
        except httpx.TransportError as exc:
            # In TLS 1.3 a server's refusal of our certificate comes with the first read.
            raise _TransientError(url, _reason(exc), None if _is_tls(exc) else retry_delay) from exc
        except httpx.InvalidURL as exc:
            raise RegistryError(f"Cannot reach {host.name}: invalid URL") from exc

    def _client(self, host: Host) -> httpx.AsyncClient:
        import httpx

        key = (host.verify, host.ca_file, host.client_cert, host.client_key)
        client = self._clients.get(key)
        if client is None:
            direct = ("all://localhost", "all://127.0.0.1", "all://[::1]")
            client = self._clients[key] = httpx.AsyncClient(
                verify=ssl_context(host),
                timeout=httpx.Timeout(self._idle_timeout_s, connect=CONNECT_TIMEOUT_S),
                headers={"User-Agent": f"lxdpy/{lxdpy.__version__}", "Accept-Encoding": "identity"},
                # A proxy of the environment serves the network; loopback is not behind it.
                mounts=dict.fromkeys(direct),
            )
        return client


class _TransientError(Exception):
    """A request without an answer; `delay` says how long to wait before the next try, None: don't."""

    def __init__(self, url: str, reason: str, delay: _Delay | None) -> None:
        super().__init__(reason)
        self.url = url
        self._delay = delay

    def delay(self, attempt: int) -> float | None:
        return self._delay(attempt) if self._delay is not None else None


def _connect_delay(attempt: int) -> float | None:
    """Nobody listens: wait for a restart at most."""
    return _CONNECT_DELAY_S * attempt if attempt < _CONNECT_ATTEMPTS else None


def _timeout_delay(attempt: int) -> float | None:
    """Time enough has passed already."""
    return 0.0 if attempt < _TIMEOUT_ATTEMPTS else None


def _wait(response: Response, attempt: int) -> float | None:
    """How long to wait before asking again, None when the answer is final."""
    if response.status not in RETRY_STATUSES:
        return None
    if response.status == 429 and b"TOOMANYREQUESTS" in response.body and retry_after(response.headers) is None:
        # Docker's hub: a quota of hours, which no waiting here outlasts.
        return None
    return retry_delay(attempt, response.headers)


async def _read(answer: httpx.Response, limit: int) -> bytes:
    """The body, raw: what is hashed must be what was sent."""
    failed = answer.status_code >= 300
    limit = min(limit, MAX_ERROR_BYTES) if failed else limit
    encoding = answer.headers.get("content-encoding", "identity").lower()
    if encoding != "identity" and not failed:
        raise RegistryError(f"Cannot read {redact(str(answer.url))}: it came with Content-Encoding {encoding:.40}")
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > limit:
            if failed:
                return bytes(body[:limit])
            raise RegistryError(f"Cannot read {redact(str(answer.url))}: it is larger than {limit} bytes")
    return bytes(body)


async def _speaks_tls(host: Host) -> bool:
    parts = urlsplit(f"//{host.address}")
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=ssl_context(host))
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, TimeoutError):
        return False
    except OSError as exc:
        if parts.port is None:
            return False
        raise RegistryError(f"Cannot reach {host.address}: {_reason(exc)}") from exc
    writer.transport.abort()
    return True


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what it came from, groups included."""
    seen: BaseException | None = exc
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            for inner in seen.exceptions:
                yield from _causes(inner)
        seen = seen.__cause__ or seen.__context__


def _is_tls(exc: BaseException) -> bool:
    """Whether TLS itself failed, and not the connection below it."""
    broken = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return any(isinstance(cause, ssl.SSLError) and not isinstance(cause, broken) for cause in _causes(exc))


def _reason(exc: BaseException) -> str:
    """The system's word for what went wrong, where there is one."""
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            known = cause.verify_code not in _UNKNOWN_ISSUER
            return f"its certificate is not valid: {cause.verify_message}" + (
                "" if known else " (ca_file names its CA)"
            )
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with it: {cause.reason or cause} (if it speaks plain http: plain_http = true)"
        if isinstance(cause, OSError) and cause.errno is not None:
            # asyncio puts words of its own into strerror; the resolver's numbers are negative.
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return str(exc) or type(exc).__name__


def _authority(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
