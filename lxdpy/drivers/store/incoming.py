"""An LXD image on its way in: one file or two, written and hashed in threads, a megabyte at a time."""

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lxdpy.drivers.base import ImageFile, ImageFiles
from lxdpy.drivers.store.disk import Disk
from lxdpy.errors import InvalidRequestError, NoSpaceError, WorkerError
from lxdpy.oci.digest import Digest

_BUFFER_BYTES = 1 << 20
_MAX_FILES = 2


@dataclass(slots=True)
class _File:
    path: Path
    fd: int
    size: int = 0
    digest: Digest | None = None


class IncomingFiles:
    """Implements `drivers.base.Incoming` in the store's directory for what is not whole."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._files: list[_File] = []
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        # Of the second file alone; that of the first one is the fingerprint's so far.
        self._own_hash: hashlib._Hash | None = None
        self._lock = threading.Lock()
        """A thread goes on when who waits for it is cancelled, and discards."""
        self._discarded = False

    async def write(self, data: bytes) -> None:
        """See `Incoming.write`."""
        self._buffer += data
        if len(self._buffer) >= _BUFFER_BYTES:
            await self._flush()

    async def next_file(self) -> None:
        """See `Incoming.next_file`."""
        await self._end_file()
        if len(self._files) == _MAX_FILES:
            raise InvalidRequestError(f"Invalid image: it has more than {_MAX_FILES} files")
        self._own_hash = hashlib.sha256()
        await asyncio.to_thread(self._locked, self._open)

    async def finish(self) -> ImageFiles:
        """See `Incoming.finish`."""
        await self._end_file()
        files = [ImageFile(file.digest, file.size, file.path) for file in self._files if file.digest is not None]
        return ImageFiles(self._hash.hexdigest(), files[0], files[1] if len(files) > 1 else None)

    def discard(self) -> None:
        """See `Incoming.discard`. Waits for nobody: a thread that is at work, and may be so for long, does it then."""
        self._discarded = True
        if self._lock.acquire(blocking=False):
            try:
                self._remove()
            finally:
                self._lock.release()

    def _remove(self) -> None:
        for file in self._files:
            if file.fd >= 0:
                os.close(file.fd)
                file.fd = -1
            with suppress(FileNotFoundError):
                file.path.unlink()
        self._files.clear()

    async def _end_file(self) -> None:
        await self._flush()
        if not self._files or not self._files[-1].size:
            raise InvalidRequestError("Invalid image: the file is empty")
        await asyncio.to_thread(self._locked, self._close)

    async def _flush(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        if data:
            await asyncio.to_thread(self._locked, lambda: self._write(data))

    def _locked(self, step: Callable[[], None]) -> None:
        try:
            with self._lock:
                if not self._discarded:
                    step()
        finally:
            # Whoever discarded meanwhile did not wait for the lock.
            if self._discarded:
                self.discard()

    def _open(self) -> None:
        path = self._disk.incoming()
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise WorkerError(f"Cannot receive an image: {exc}") from exc
        self._files.append(_File(path, fd))

    def _write(self, data: bytes) -> None:
        if not self._files:
            self._open()
        file = self._files[-1]
        self._hash.update(data)
        if self._own_hash is not None:
            self._own_hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(file.fd, view) :]
        except OSError as exc:
            raise _failed(exc) from exc
        file.size += len(data)

    def _close(self) -> None:
        """The last file is whole. On disk, too: nobody could fetch it again."""
        file = self._files[-1]
        file.digest = Digest("sha256", (self._own_hash or self._hash).hexdigest())
        try:
            os.fsync(file.fd)
        except OSError as exc:
            raise _failed(exc) from exc
        finally:
            os.close(file.fd)
            file.fd = -1


def _failed(exc: OSError) -> NoSpaceError | WorkerError:
    kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
    return kind(f"Cannot receive an image: {exc.strerror}")
