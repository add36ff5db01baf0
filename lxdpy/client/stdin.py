"""Reading a command's input from whatever the caller has, without a thread that outlives it."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable
from typing import Protocol, runtime_checkable

CHUNK_BYTES = 65536


@runtime_checkable
class Readable(Protocol):
    """A binary file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


Stdin = bytes | str | Readable | Iterable[bytes]


async def chunks(source: Stdin | None) -> AsyncIterator[bytes]:
    """The bytes of `source`. A pipe, socket or terminal is read at its descriptor, past any buffer."""
    if source is None:
        return
    if isinstance(source, str):
        source = source.encode()
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source)
        for start in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[start : start + CHUNK_BYTES])
    elif isinstance(source, Readable):
        fd = _pollable(source)
        while chunk := await (asyncio.to_thread(source.read, CHUNK_BYTES) if fd is None else _read_ready(fd)):
            yield chunk
    else:
        for chunk in source:
            yield chunk


def _pollable(source: Readable) -> int | None:
    """The descriptor of something that may block for ever; None for what reads to its end by itself."""
    try:
        fd: int = source.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None
    mode = os.fstat(fd).st_mode
    blocking = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))
    return fd if blocking else None


async def _read_ready(fd: int) -> bytes:
    """Wait until `fd` has something, and read that."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return await _read_ready(fd)
