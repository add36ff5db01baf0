"""TLS in front of a unix socket: what clients meet who insist on https."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def tls_relay(context: ssl.SSLContext, port: int, socket: Path) -> Iterator[None]:
    """Relay each connection to 127.0.0.1:`port` to `socket` while the block runs."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_unix_connection(socket)
        await asyncio.gather(_pump(reader, their_writer), _pump(their_reader, writer))

    async def serve() -> None:
        async with await asyncio.start_server(relay, "127.0.0.1", port, ssl=context):
            ready.set()
            await asyncio.to_thread(ended.wait)

    ready, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10), f"Nothing listens on port {port}"
        yield
    finally:
        ended.set()
        thread.join()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
