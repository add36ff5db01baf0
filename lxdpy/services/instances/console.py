"""The console log: what an instance's init printed, kept by its monitor whether or not the daemon lives.

The monitor writes what it reads from the console's pty, where the kernel turned each LF into CR LF. A log may be large:
it is read in parts, and its last lines from its end.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

_PART = 256 * 1024
_POLL_S = 0.1


class ConsoleLog:
    """The console log of one instance."""

    def __init__(self, path: Path, has_ended: Callable[[], bool]) -> None:
        self._path = path
        self._has_ended = has_ended

    async def read(self, tail: int | None = None, *, follow: bool = False) -> AsyncIterator[bytes]:
        """The log, or its last `tail` lines; with `follow` also what comes, until the instance has stopped."""
        offset, size = await asyncio.to_thread(self._extent, tail)
        carry = b""
        while True:
            # Asked before the read: what init printed last is in the file by the time it is found dead and cleared.
            ended = self._has_ended()
            while data := await asyncio.to_thread(self._read, offset, _PART if follow else min(_PART, size - offset)):
                offset += len(data)
                data = carry + data
                carry = b"\r" if data.endswith(b"\r") else b""
                if text := data[: len(data) - len(carry)].replace(b"\r\n", b"\n"):
                    yield text
            if ended or not follow:
                if carry:
                    yield carry
                return
            await asyncio.sleep(_POLL_S)

    def _extent(self, tail: int | None) -> tuple[int, int]:
        """Where the text begins that is wanted, and where it ends now."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                return (0 if tail is None else _last_lines(file, size, tail)), size
        except FileNotFoundError:
            return 0, 0

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""


def _last_lines(file: BinaryIO, size: int, count: int) -> int:
    """Where the last `count` lines begin."""
    if count <= 0:
        return size
    # A line break at the very end ends the last line, and begins none.
    position = max(size - 1, 0)
    while position > 0:
        begin = max(position - _PART, 0)
        file.seek(begin)
        part = file.read(position - begin)
        at = len(part)
        while (at := part.rfind(b"\n", 0, at)) >= 0:
            count -= 1
            if count == 0:
                return begin + at + 1
        position = begin
    return 0
