"""The console log: what an instance's init printed, kept by its monitor whether or not the daemon lives.

The monitor writes what it reads from the console's pty, where the kernel turned each LF into CR LF.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

_CHUNK = 256 * 1024
_POLL_S = 0.1


class ConsoleLog:
    """The console log of one instance."""

    def __init__(self, path: Path, has_ended: Callable[[], bool]) -> None:
        self._path = path
        self._has_ended = has_ended

    async def read(self, tail: int | None = None) -> bytes:
        """The whole log, or its last `tail` lines."""
        data = await asyncio.to_thread(self._read_from, 0, -1)
        text = data.replace(b"\r\n", b"\n")
        return _last_lines(text, tail) if tail is not None else text

    async def follow(self, tail: int | None = None) -> AsyncIterator[bytes]:
        """The log as far as it is, then what comes, until the instance has stopped."""
        offset = 0
        carry = b""
        first = True
        while True:
            # Asked before the read: what init printed last is in the file by the time it is found dead and cleared.
            ended = self._has_ended()
            while data := await asyncio.to_thread(self._read_from, offset, -1 if first else _CHUNK):
                offset += len(data)
                data = carry + data
                carry = b"\r" if data.endswith(b"\r") else b""
                text = data[: len(data) - len(carry)].replace(b"\r\n", b"\n")
                if first and tail is not None:
                    text = _last_lines(text, tail)
                first = False
                if text:
                    yield text
            first = False
            if ended:
                if carry:
                    yield carry
                return
            await asyncio.sleep(_POLL_S)

    def _read_from(self, offset: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""


def _last_lines(text: bytes, count: int) -> bytes:
    if count <= 0:
        return b""
    end = len(text) - 1 if text.endswith(b"\n") else len(text)
    for _ in range(count):
        end = text.rfind(b"\n", 0, end)
        if end < 0:
            return text
    return text[end + 1 :]
