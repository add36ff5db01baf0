"""Websockets as services see them: named ends of a job that a client connects to with secrets.

A job makes `Sockets(("0", "1", "2", "control"))`; the client learns their secrets from the operation's metadata and
opens one websocket per secret; the HTTP edge claims the name and attaches the connection; the job waits for it.
"""

import asyncio
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Protocol

from lxdpy.errors import AccessDeniedError, InvalidRequestError

CONNECT_TIMEOUT_S = 5.0


class Connection(Protocol):
    """One accepted websocket."""

    async def receive(self) -> bytes | str | None:
        """The next message: binary as bytes, text as str; None once the peer is gone."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message and wait while the peer is slow. Raises ConnectionError when the peer is gone."""

    async def send_text(self, text: str) -> None:
        """Send a text message; as `send_bytes`."""

    async def close(self) -> None:
        """End the connection; nothing happens when it has ended."""


class Sockets:
    """The websockets of one job, by name. Each secret opens one connection, once."""

    def __init__(self, names: Iterable[str]) -> None:
        self._secrets = {name: secrets.token_hex(32) for name in names}
        self._unclaimed = dict(self._secrets)
        self._futures: dict[str, asyncio.Future[Connection]] = {}
        self._closed: set[str] = set()

    @property
    def secrets(self) -> Mapping[str, str]:
        """The secret of each name, as LXD's `fds`."""
        return self._secrets

    def claim(self, secret: str) -> str:
        """Use up a secret and say which name it opens. Raises AccessDeniedError."""
        found = None
        for name, known in self._unclaimed.items():
            # No early exit: the time taken must not tell which secret was nearly right.
            if hmac.compare_digest(known.encode(), secret.encode(errors="surrogateescape")):
                found = name
        if found is None or found in self._closed:
            raise AccessDeniedError("Cannot connect websocket: permission denied")
        del self._unclaimed[found]
        return found

    async def attach(self, name: str, connection: Connection) -> None:
        """Hand an accepted connection to the job, or close it when the job wants it no more."""
        if name in self._closed:
            await connection.close()
            return
        future = self._future(name)
        if not future.done():
            future.set_result(connection)

    async def connection(self, name: str) -> Connection:
        """Wait for the connection called `name`."""
        return await asyncio.shield(self._future(name))

    async def connections(self, names: Iterable[str]) -> list[Connection]:
        """Wait for all of `names`. Raises InvalidRequestError when the client does not connect in time."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return [await self.connection(name) for name in names]
        except TimeoutError as exc:
            raise InvalidRequestError("Timed out waiting for websockets to connect") from exc

    async def close(self, names: Iterable[str] | None = None) -> None:
        """Close the connections called `names` (None: all); later ones are closed when they come."""
        for name in self._secrets if names is None else names:
            self._closed.add(name)
            future = self._futures.get(name)
            if future is None:
                continue
            if future.done() and not future.cancelled():
                await future.result().close()
            else:
                future.cancel()

    def _future(self, name: str) -> asyncio.Future[Connection]:
        future = self._futures.get(name)
        if future is None:
            future = self._futures[name] = asyncio.get_running_loop().create_future()
        return future
