"""A blob's file while it is being fetched: one thread appends, another reads from the start and waits for more."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

CHUNK_BYTES = 256 << 10
# Less is not worth waking the reader for, until it is the end.
_WORTHWHILE_BYTES = 64 << 10


class Feed:
    """The file `fd`, of which the first `available` bytes are there."""

    def __init__(self, fd: int, available: int) -> None:
        self.fd = fd
        self.available = available
        self._ended = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    def append(self, data: bytes) -> None:
        """Add bytes at the end. Raises OSError."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, self.available)
            view = view[written:]
            with self._changed:
                self.available += written
                self._changed.notify()

    def end(self, failure: BaseException | None = None) -> None:
        """Nothing will be added any more: the file is whole, or never will be."""
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the end. Raises the failure."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
        if self._failure is not None:
            raise self._failure

    def chunks(self) -> Iterator[bytes]:
        """The file from its start to its end. Raises the failure as soon as it is known."""
        offset = 0
        while True:
            with self._changed:
                while not self._ended and self.available - offset < _WORTHWHILE_BYTES:
                    self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                ahead = self.available - offset
            if not ahead:
                return
            chunk = os.pread(self.fd, min(ahead, CHUNK_BYTES), offset)
            offset += len(chunk)
            yield chunk
