"""The daemon's end of a fork server (workers/zygote.py): spawn it, give it jobs, kill jobs that hang.

`Zygote.job` sends a request; the child that does it is a `Job`, with a message channel of its own. The fork server
starts with the first job, and again when it has died. What a child raised is raised here; a dead one is a WorkerError.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from lxdpy import errors
from lxdpy.errors import LxdpyError, WorkerError
from lxdpy.linux import packet

logger = logging.getLogger(__name__)

Message = dict[str, object]

HELLO_TIMEOUT_S = 30.0
_DAEMON_FD = 3
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Job:
    """One child of a fork server and the channel to it.

    `with job:` closes the channel at the end, and kills the child when the block raised.
    """

    def __init__(self, name: str, channel: socket.socket) -> None:
        self._name = name
        self._channel = channel
        self._pidfd: int | None = None
        self.pid = 0
        """The child's pid on the host."""

    async def send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """Say something to the child; `fds` stay open here. Raises WorkerError when it has ended."""
        try:
            await _send(self._channel, message, fds)
        except OSError as exc:
            raise WorkerError(f"Cannot reach the {self._name} worker: {exc.strerror}") from exc

    async def receive(self, timeout_s: float | None = None) -> tuple[Message, list[int]]:
        """The child's next message, and the descriptors in it, which are the caller's to close.

        Raises what the child raised, WorkerError when it died, and WorkerError after `timeout_s`, having killed it.
        """
        received = await self._next(timeout_s)
        if received is None:
            raise WorkerError(f"The {self._name} worker died before it had answered")
        return received

    def kill(self) -> None:
        """SIGKILL the child; nothing happens when it has ended."""
        if self._pidfd is not None:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    async def end(self) -> None:
        """Kill the child, and wait until it has ended and holds nothing any more. The channel stays open."""
        self.kill()
        if self._pidfd is not None:
            loop = asyncio.get_running_loop()
            await _ready(self._pidfd, loop.add_reader, loop.remove_reader)

    def close(self) -> None:
        """Close the channel. The child goes on with what it is at, and can't report any more."""
        self._channel.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()

    async def _next(self, timeout_s: float | None) -> tuple[Message, list[int]] | None:
        """The child's next message as `receive` promises, or None when it is gone."""
        try:
            async with asyncio.timeout(timeout_s):
                received = await _receive(self._channel)
        except ConnectionError:
            return None
        except TimeoutError as exc:
            self.kill()
            raise WorkerError(f"The {self._name} worker did not answer within {timeout_s:g} s") from exc
        except (OSError, ValueError) as exc:
            self.kill()
            raise WorkerError(f"Cannot hear the {self._name} worker: {exc}") from exc
        if received is not None:
            message, fds = received
            kind = message.get("error")
            if isinstance(kind, str):
                for fd in fds:
                    os.close(fd)
                raise _error(kind, str(message.get("message")))
        return received

    async def hello(self) -> bool:
        """Wait until the child exists; False when the fork server ended before it had one."""
        received = await self._next(HELLO_TIMEOUT_S)
        if received is None:
            return False
        message, fds = received
        pid = message.get("pid")
        if not isinstance(pid, int) or len(fds) != 1:
            for fd in fds:
                os.close(fd)
            raise WorkerError(f"The {self._name} worker introduced itself as {message!r}")
        self.pid, self._pidfd = pid, fds[0]
        return True


class Zygote:
    """A fork server of `argv`, spawned when first needed. Belongs to one event loop."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str] = _ENVIRONMENT) -> None:
        self._name = name
        self._argv = tuple(argv)
        self._environment = dict(environment)
        self._sock: socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._gone: asyncio.Event | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The fork server's pid, when it runs."""
        return self._pid if self._sock is not None else None

    async def job(self, request: Mapping[str, object], fds: Sequence[int] = ()) -> Job:
        """Fork a child for `request`; `fds` stay open here. Raises WorkerError when there is no child to be had."""
        for _ in range(2):
            # A fork server that is just ending (idle, killed) never starts the job, so it can be asked for again.
            job = await self._try_job(request, fds)
            if job is not None:
                return job
        raise WorkerError(f"The {self._name} fork server ends as soon as it is started")

    async def start(self) -> None:
        """Spawn the fork server ahead of its first job. Raises WorkerError."""
        async with self._lock:
            self._running()

    async def close(self) -> None:
        """End the fork server and wait for its end; its children go on."""
        self._closed = True
        async with self._lock:
            gone = self._gone
            if self._sock is not None:
                self._sock.close()
                self._sock = None
        if gone is not None:
            try:
                async with asyncio.timeout(5):
                    await gone.wait()
            except TimeoutError:
                os.kill(self._pid, signal.SIGKILL)
                await gone.wait()

    async def _try_job(self, request: Mapping[str, object], fds: Sequence[int]) -> Job | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        job = Job(self._name, ours)
        try:
            with theirs:
                async with self._lock:
                    sock = self._running()
                    try:
                        await _send(sock, request, (theirs.fileno(), *fds))
                    except ConnectionError:
                        self._forget(sock)
                        job.close()
                        return None
            if await job.hello():
                return job
            self._forget(sock)
        except BaseException:
            job.kill()
            job.close()
            raise
        job.close()
        return None

    def _running(self) -> socket.socket:
        """The socket to the fork server, which is spawned if need be."""
        if self._closed:
            raise WorkerError(f"The {self._name} fork server is closed")
        if self._sock is None:
            self._sock = self._spawn()
        return self._sock

    def _forget(self, sock: socket.socket) -> None:
        """Spawn anew next time, unless somebody did already."""
        if self._sock is sock:
            self._sock = None
        sock.close()

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # dup2 onto itself would keep close-on-exec.
            source = theirs.fileno() if theirs.fileno() != _DAEMON_FD else os.dup(theirs.fileno())
            try:
                pid = os.posix_spawn(
                    self._argv[0],
                    self._argv,
                    self._environment,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, source, _DAEMON_FD),
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    ],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE),
                )
            except OSError as exc:
                ours.close()
                raise WorkerError(f"Cannot start the {self._name} fork server {self._argv[0]}: {exc.strerror}") from exc
            finally:
                if source != theirs.fileno():
                    os.close(source)
        ours.setblocking(False)
        self._watch(pid)
        logger.debug("Started the %s fork server, pid %d", self._name, pid)
        return ours

    def _watch(self, pid: int) -> None:
        """Reap the fork server when it ends."""
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(pid)
        gone = asyncio.Event()

        def reap() -> None:
            loop.remove_reader(pidfd)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)
            gone.set()

        self._pid, self._gone = pid, gone
        loop.add_reader(pidfd, reap)


def _error(kind: str, message: str) -> LxdpyError:
    """The error that a child reported."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, LxdpyError):
        return found(message)
    return WorkerError(f"{kind}: {message}")


async def _send(sock: socket.socket, message: Mapping[str, object], fds: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            packet.send(sock, message, list(fds))
            return
        except BlockingIOError:
            await _ready(sock.fileno(), loop.add_writer, loop.remove_writer)


async def _receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return packet.receive(sock)
        except BlockingIOError:
            await _ready(sock.fileno(), loop.add_reader, loop.remove_reader)


async def _ready(fd: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    """Wait until the event loop says that `fd` is ready."""
    event = asyncio.Event()
    add(fd, event.set)
    try:
        await event.wait()
    finally:
        remove(fd)
