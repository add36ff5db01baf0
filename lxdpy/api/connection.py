"""A starlette websocket as the connection that services know."""

import asyncio

from fastapi import WebSocket, WebSocketDisconnect


class WebsocketConnection:
    """Implements `lxdpy.websocket.Connection` on an accepted websocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._ended = asyncio.Event()
        self._gone = False

    async def receive(self) -> bytes | str | None:
        """The next message; None once the peer is gone."""
        if self._gone:
            return None
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
            return None
        data: bytes | None = message.get("bytes")
        text: str | None = message.get("text")
        return data if data is not None else text or ""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message. Raises ConnectionError when the peer is gone."""
        await self._send({"type": "websocket.send", "bytes": data})

    async def send_text(self, text: str) -> None:
        """Send a text message. Raises ConnectionError when the peer is gone."""
        await self._send({"type": "websocket.send", "text": text})

    async def close(self) -> None:
        """End the connection."""
        if self._ended.is_set():
            return
        self._ended.set()
        if not self._gone:
            try:
                await self._send({"type": "websocket.close", "code": 1000})
            except ConnectionError:
                pass

    async def ended(self) -> None:
        """Wait until the job has closed the connection."""
        await self._ended.wait()

    async def _send(self, message: dict[str, object]) -> None:
        if self._gone:
            raise ConnectionResetError("Cannot send on websocket: the client is gone")
        try:
            await self._websocket.send(message)
        except (WebSocketDisconnect, RuntimeError, OSError) as exc:
            # starlette raises RuntimeError for a websocket whose end it has seen before.
            self._gone = True
            raise ConnectionResetError("Cannot send on websocket: the client is gone") from exc
