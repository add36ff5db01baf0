"""Moves bytes between a process's pipes or terminal and websockets, at the pace of the slower side.

Our ends are non-blocking: the event loop tells when they are ready. Nothing is buffered beyond one read or message.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress

from lxdpy.websocket import Connection

READ_BYTES = 256 << 10
PIPE_BYTES = 1 << 20
GRACE_S = 0.2
"""How long output may pause after the process ended, while others still hold its pipe."""
FOREIGN_BYTES = 4 << 20
"""More than a pipe or terminal can hold: what comes beyond is not the ended process's."""


class End:
    """A file descriptor of ours, closed once."""

    def __init__(self, fd: int, *, blocking: bool = False) -> None:
        self.fd = fd
        self._closed = False
        os.set_blocking(fd, blocking)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def close(self) -> None:
        """Close it, if it is open."""
        if not self._closed:
            self._closed = True
            os.close(self.fd)


def pipe() -> tuple[int, int]:
    """A large pipe: read end, write end."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    # A host may grant less; then the pipe keeps its size, and is slower.
    with suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


class Output:
    """What a process prints, sent to a client: all of it."""

    def __init__(self, end: End, connection: Connection, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called when the client has gone before the end."""
        self._end = end
        self._connection = connection
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._left = FOREIGN_BYTES

    def process_ended(self) -> None:
        """From now on, silence is the end even while another process holds the pipe."""
        self._deadline = self._loop.time() + GRACE_S
        self._loop.call_at(self._deadline, self._wake)

    async def run(self) -> None:
        """Send until the end of the output; then the empty text message that means so."""
        try:
            while self._left > 0:
                data = self._read()
                if data is None:
                    if self._deadline is not None and self._loop.time() >= self._deadline:
                        break
                    await self._readable()
                elif data:
                    if self._deadline is not None:
                        self._left -= len(data)
                    await self._connection.send_bytes(data)
                else:
                    break
            await self._connection.send_text("")
        except ConnectionError:
            self._on_lost()

    def _read(self) -> bytes | None:
        """What is there; None: nothing yet; empty: nobody can write any more."""
        try:
            return os.read(self._end.fd, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            # A pty's master says EIO once every slave is closed and all was read.
            if exc.errno == errno.EIO:
                return b""
            raise

    async def _readable(self) -> None:
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._end.fd, self._wake)
        try:
            await self._waiter
        finally:
            self._loop.remove_reader(self._end.fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def feed(connection: Connection, end: End, *, close: bool) -> None:
    """Write what a client sends until it says that there is no more (an empty text message) or is gone.

    `close` closes the end then. Returns also when nobody reads any more.
    """
    try:
        while (message := await connection.receive()) is not None:
            if message == "":
                break
            await _write(end.fd, message.encode() if isinstance(message, str) else message)
    except OSError as exc:
        # The process has closed its stdin (EPIPE), or all of its terminal (EIO).
        if exc.errno not in (errno.EPIPE, errno.EIO):
            raise
    if close:
        end.close()


async def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await _writable(fd)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, lambda: None if waiter.done() else waiter.set_result(None))
    try:
        await waiter
    finally:
        loop.remove_writer(fd)
