"""Bytes to and from the unix socket: httpx for requests, websockets for streams. Knows no instances or images."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from lxdpy.client.errors import ConnectionFailed, LXDError, WaitTimeout
from lxdpy.client.requests import Answer, Request, parse_answer

HOST = "lxdpy"


class Transport:
    """One daemon. Connections are made on demand and belong to the event loop that first used them."""

    def __init__(self, socket: str, *, timeout_s: float, project: str | None) -> None:
        self.socket = socket
        self._timeout_s = timeout_s
        self._project = {"project": project} if project and project != "default" else {}
        self._http: httpx.AsyncClient | None = None

    async def send(self, request: Request, *, extra_s: float = 0) -> Answer:
        """Send one request; `extra_s` is how long the server may hold the answer back on purpose.

        Raises LXDError for an error answer, ConnectionFailed and WaitTimeout for none.
        """
        http = self._client()
        try:
            response = await http.request(
                request.method,
                request.path,
                params={**request.params, **self._project},
                json=request.body,
                timeout=self._timeout_s + extra_s,
            )
        except httpx.HTTPError as exc:
            raise self._failure(f"{request.method} {request.path}", exc) from exc
        return parse_answer(response.status_code, response.content)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of an answer, piece by piece, for as long as the server sends."""
        http = self._client()
        timeout = httpx.Timeout(self._timeout_s, read=None)
        try:
            async with http.stream(
                request.method, request.path, params={**request.params, **self._project}, timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    parse_answer(response.status_code, await response.aread())
                yield response.aiter_bytes()
        except httpx.HTTPError as exc:
            raise self._failure(f"{request.method} {request.path}", exc) from exc

    async def websocket(self, path: str, params: Mapping[str, str]) -> ClientConnection:
        """Open a websocket; the caller closes it."""
        query = urlencode({**params, **self._project})
        try:
            return await unix_connect(
                self.socket,
                uri=f"ws://{HOST}{path}?{query}",
                compression=None,
                max_size=None,
                # A daemon that is busy for a while is not gone, and a dead one closes the socket.
                ping_interval=None,
                open_timeout=self._timeout_s,
                close_timeout=1,
                proxy=None,
            )
        except InvalidStatus as exc:
            parse_answer(exc.response.status_code, bytes(exc.response.body or b""))
            raise LXDError(exc.response.status_code, f"Cannot open websocket {path}: {exc}") from exc
        except (OSError, InvalidHandshake) as exc:
            raise self._failure(f"Websocket {path}", exc) from exc

    async def aclose(self) -> None:
        """Close the connections; the next request makes new ones."""
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                # verify=False only saves loading certificates: there is no TLS on a unix socket. Connections are not
                # limited: each wait holds one.
                transport=httpx.AsyncHTTPTransport(
                    uds=self.socket, verify=False, limits=httpx.Limits(max_keepalive_connections=20)
                ),
                base_url=f"http://{HOST}",
                trust_env=False,
                headers={"user-agent": "lxdpy"},
            )
        return self._http

    def _failure(self, what: str, exc: Exception) -> LXDError:
        if isinstance(exc, httpx.TimeoutException | TimeoutError):
            return WaitTimeout(f"{what}: no answer on {self.socket} within {self._timeout_s:g} s")
        if isinstance(exc, httpx.ConnectError | OSError):
            return ConnectionFailed(f"Cannot connect to {self.socket}: {root_reason(exc)}")
        return ConnectionFailed(f"{what}: connection to {self.socket} lost: {root_reason(exc)}")


def root_reason(exc: BaseException) -> str:
    """The system's own words for a failure: httpx wraps them, and often says nothing itself."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(exc) or type(exc).__name__
