"""The console log: what an instance's init printed, kept by its monitor whether or not the daemon lives.

The monitor writes what it reads from the console's pty, where the kernel turned each LF into CR LF. It begins a new
file when one is full. A log may be large: it is read in parts, and its last lines from its end.
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
        # Opening does not wait, and a thread could not give back what it opened for a caller that was cancelled.
        file = self._open()
        try:
            left = await asyncio.to_thread(_seek, file, tail)
            carry = b""
            while True:
                # Asked before the read: what init printed last is in the file by the time it is found dead and
                # cleared, and what it printed before a new file began is in the old one.
                ended = self._has_ended()
                newer = self._newer(file) if follow else None
                if follow and os.fstat(file.fileno()).st_size < file.tell():
                    # Somebody emptied it.
                    file.seek(0)
                while data := await asyncio.to_thread(file.read, _PART if follow else min(_PART, left)):
                    left -= len(data)
                    data = carry + data
                    carry = b"\r" if data.endswith(b"\r") else b""
                    if text := data[: len(data) - len(carry)].replace(b"\r\n", b"\n"):
                        yield text
                if newer is not None:
                    file.close()
                    file = newer
                elif ended or not follow:
                    if carry:
                        yield carry
                    return
                else:
                    await asyncio.sleep(_POLL_S)
        finally:
            file.close()

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return open(os.devnull, "rb")

    def _newer(self, file: BinaryIO) -> BinaryIO | None:
        """The log, when it is another file by now."""
        newer = self._open()
        if os.path.samestat(os.fstat(newer.fileno()), os.fstat(file.fileno())):
            newer.close()
            return None
        return newer


def _seek(file: BinaryIO, tail: int | None) -> int:
    """Go to where the wanted text begins; how many bytes there are of it now."""
    size = file.seek(0, os.SEEK_END)
    begin = 0 if tail is None else _last_lines(file, size, tail)
    file.seek(begin)
    return size - begin


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
