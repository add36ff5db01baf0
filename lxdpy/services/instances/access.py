"""Who looks at an instance's files: one session of the driver, opened when first asked for, and what goes on in it.

A session holds the root file system: of a running instance its mounts, of a stopped one a mount of its own. Whoever
starts, deletes, copies or renames the instance ends the session first (`Runtime.cleared` does); transfers that are
under way then fail. Unused for a few seconds it ends by itself.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lxdpy.drivers.base import FileSession
from lxdpy.errors import ConflictError, LxdpyError
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

IDLE_S = 5.0

T = TypeVar("T")


class FileAccess:
    """The file session of one instance, if there is one."""

    def __init__(self) -> None:
        self._session: FileSession | None = None
        self._left: set[FileSession] = set()
        """Sessions that are over, and may hold the root file system still."""
        self._uses = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._transfers: set[Transfer] = set()
        self._ending = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._idle_end: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a session that works."""
        return self._session is not None and not self._session.closed

    async def open(self, begin: Callable[[], Awaitable[FileSession]], *, alone: bool) -> None:
        """Begin a session; the instance's lock must be held.

        `alone`: what is left of an earlier one is ended first. Otherwise it may take its time: a process of the
        container can keep whoever looks for a file waiting (FUSE), and need not keep the next one from the others.
        """
        if alone:
            await self.end()
        elif self._session is not None:
            self._left.add(self._session)
            self._session = None
        self._session = await begin()
        self._rest()

    @contextmanager
    def use(self) -> Iterator[FileSession]:
        """The session, which must be open; it stays while the block runs, unless somebody ends it."""
        session = self._session
        assert session is not None
        self._uses += 1
        self._unused.clear()
        self._stay()
        try:
            yield session
        finally:
            self._uses -= 1
            if self._uses == 0:
                self._unused.set()
                self._rest()

    def transfer(self, fd: int, what: str) -> "Transfer":
        """Take over a descriptor that a session gave; within `use`. `what` names it in errors."""
        transfer = Transfer(fd, what, self._finished)
        self._transfers.add(transfer)
        self._stay()
        return transfer

    async def end(self) -> None:
        """End the session and everything that goes on in it. Raises BusyError when its process does not end."""
        async with self._ending:
            self._stay()
            session, self._session = self._session, None
            if session is not None:
                self._left.add(session)
            if self._left:
                await uninterrupted(self._end())

    async def _end(self) -> None:
        stuck: LxdpyError | None = None
        for session in list(self._left):
            try:
                await session.close()
                self._left.discard(session)
            except LxdpyError as exc:
                stuck = exc
        if stuck is not None:
            raise stuck
        # By now each request has its answer, or its error; what it was given is a transfer before it lets go.
        await self._unused.wait()
        await asyncio.gather(*(transfer.close() for transfer in list(self._transfers)))

    def _finished(self, transfer: "Transfer") -> None:
        self._transfers.discard(transfer)
        self._rest()

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        """End the session in a while, if nothing goes on."""
        if self._session is not None and not self._uses and not self._transfers:
            self._stay()
            self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._idle)

    def _idle(self) -> None:
        self._timer = None
        self._idle_end = asyncio.create_task(self._end_idle())

    async def _end_idle(self) -> None:
        try:
            await self.end()
        except LxdpyError as exc:
            logger.warning("%s", exc)


class Transfer:
    """A file of an instance, open in this process, for one reader or writer.

    Threads use the descriptor, and a thread can't be cancelled: it is closed when none uses it any more, whatever
    becomes of whoever waits for that. Its number may be another file's a moment later.
    """

    def __init__(self, fd: int, what: str, on_close: Callable[["Transfer"], None]) -> None:
        self._fd = fd
        self._what = what
        self._on_close = on_close
        self._at_work: asyncio.Future[Any] | None = None
        self._closing = False
        self._closed = asyncio.Event()

    async def read(self, size: int) -> bytes:
        """The next bytes; empty at the end. Raises ConflictError when somebody needed the instance, OSError."""
        return await self._in_thread(os.read, size)

    async def write(self, data: bytes | bytearray) -> None:
        """Write all of it. Raises as `read`."""
        await self._in_thread(_write, data)

    async def finish(self, mode: int | None, modified_ns: int | None) -> None:
        """Set what can only be set when all is written: writing takes setuid away, and changes the time."""
        await self._in_thread(_finish, mode, modified_ns)

    async def close(self) -> None:
        """Close it: whoever goes on with it gets an error. Nothing happens when it is closed."""
        if not self._closing:
            self._closing = True
            if self._at_work is None or self._at_work.done():
                self._close()
            else:
                self._at_work.add_done_callback(lambda _: self._close())
        await self._closed.wait()

    def _close(self) -> None:
        os.close(self._fd)
        self._closed.set()
        self._on_close(self)

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        if self._closing:
            raise ConflictError(
                f"Cannot go on with {self._what}: the instance was started, stopped or changed meanwhile"
            )
        work = asyncio.get_running_loop().run_in_executor(None, call, self._fd, *arguments)
        self._at_work = work
        # A thread that nobody waits for any more must not complain of that.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(work)


def _write(fd: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _finish(fd: int, mode: int | None, modified_ns: int | None) -> None:
    if mode is not None:
        os.fchmod(fd, mode)
    if modified_ns is not None:
        os.utime(fd, ns=(modified_ns, modified_ns))
