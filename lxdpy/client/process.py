"""A command in an instance: its streams on websockets.

fd 0, 1, 2      data are BINARY frames; an empty TEXT frame is the end of the stream, in both directions
fd 0 (terminal) both directions at once; the server waits for our close after its end
control         TEXT frames: window-resize, signal. Closing it early kills the command
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from types import TracebackType

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from lxdpy.client.errors import ConnectionFailed, LXDError, NotFound
from lxdpy.client.operation import AsyncOperation
from lxdpy.client.records import ExecResult, OperationRecord
from lxdpy.client.requests import path, send_signal, window_resize
from lxdpy.client.stdin import Stdin, chunks
from lxdpy.client.transport import Transport

END_OF_STREAM = ""


class AsyncProcess:
    """A running command, made by `AsyncInstance.exec`. Leaving `async with` before its end kills it."""

    def __init__(
        self, operation: AsyncOperation, sockets: Mapping[str, ClientConnection], *, interactive: bool
    ) -> None:
        self.operation = operation
        self._sockets = sockets
        self._interactive = interactive
        # At most a few chunks wait here, so a slow reader slows the command down instead of filling memory.
        self._chunks: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(maxsize=16)
        outputs = {"0": "stdout"} if interactive else {"1": "stdout", "2": "stderr"}
        self._open_outputs = len(outputs)
        self._pumps = [asyncio.create_task(self._pump(sockets[fd], name)) for fd, name in outputs.items()]
        # From the start: the server forgets an operation seconds after its end, however slow our reader is.
        self._end = asyncio.create_task(self._wait_end())

    @classmethod
    async def connect(cls, transport: Transport, operation: AsyncOperation, *, interactive: bool) -> "AsyncProcess":
        """Connect all streams of an exec operation. Raises OperationFailed if it failed meanwhile."""
        secrets: Mapping[str, str] = operation.record.metadata.get("fds") or {}
        fds = ("control", "0") if interactive else ("control", "0", "1", "2")
        url = path("operations", operation.id, "websocket")
        opened = await asyncio.gather(
            *(transport.websocket(url, {"secret": secrets[fd]}) for fd in fds), return_exceptions=True
        )
        sockets = {fd: item for fd, item in zip(fds, opened, strict=True) if not isinstance(item, BaseException)}
        if failures := [item for item in opened if isinstance(item, BaseException)]:
            await _close(sockets)
            # The operation knows better why there is nothing to connect to.
            with suppress(NotFound, ConnectionFailed):
                (await operation.refresh()).raise_for_status()
            raise failures[0]
        return cls(operation, sockets, interactive=interactive)

    async def write(self, data: bytes) -> None:
        """Send input. Raises BrokenPipeError once the command reads no more."""
        try:
            await self._sockets["0"].send(data)
        except ConnectionClosed as exc:
            raise BrokenPipeError(f"Command of operation {self.operation.id} has closed its input") from exc

    async def close_stdin(self) -> None:
        """End the input. On a terminal send Ctrl-D (b"\\x04") instead: its two directions end together."""
        if not self._interactive:
            await self._tell("0", END_OF_STREAM)

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size."""
        await self._tell("control", window_resize(width, height))

    async def signal(self, number: int) -> None:
        """Send a signal to the command; nothing happens if it has ended."""
        await self._tell("control", send_signal(number))

    async def output(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Pieces of output as they come, each with "stdout" or "stderr" (a terminal has only stdout)."""
        while self._open_outputs or not self._chunks.empty():
            name, chunk = await self._chunks.get()
            if chunk:
                yield name, chunk
            else:
                self._open_outputs -= 1

    async def feed(self, source: Stdin | None) -> None:
        """Send all of `source`, then the end of input; stops early if the command reads no more.

        On a terminal the end of a `source` is Ctrl-D, twice where a line is unfinished, and None is no input yet.
        """
        last = b"\n"
        try:
            async for chunk in chunks(source):
                await self.write(chunk)
                last = chunk[-1:] or last
            if self._interactive and source is not None:
                await self.write(b"\x04" if last in (b"\n", b"\r") else b"\x04\x04")
        except BrokenPipeError:
            return
        await self.close_stdin()

    async def wait(self) -> int:
        """Wait for its end, dropping output that nobody read. Its exit code; 128 + N after signal N, 127 not found.

        Raises OperationFailed if it could not be run at all.
        """
        async for _ in self.output():
            pass
        if self._interactive:
            await self._sockets["0"].close()
        record = await asyncio.shield(self._end)
        code = record.metadata.get("return")
        if isinstance(code, int) and not (record.err and code < 0):
            return code
        record.raise_for_status()
        raise LXDError(0, f"Operation {self.operation.id} ended without an exit code")

    async def communicate(self, stdin: Stdin | None = None) -> ExecResult:
        """Send `stdin`, collect the output, wait."""
        collected = {"stdout": bytearray(), "stderr": bytearray()}
        feeder = asyncio.create_task(self.feed(stdin))
        try:
            async for name, chunk in self.output():
                collected[name] += chunk
            exit_code = await self.wait()
            if feeder.done():
                feeder.result()
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
        return ExecResult(exit_code, bytes(collected["stdout"]), bytes(collected["stderr"]))

    async def aclose(self) -> None:
        """Close the streams; a command that still runs is killed."""
        tasks = [*self._pumps, self._end]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _close(self._sockets)

    async def __aenter__(self) -> "AsyncProcess":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _pump(self, socket: ClientConnection, name: str) -> None:
        """Move one stream's frames to the queue; an empty chunk marks its end."""
        try:
            while isinstance(frame := await socket.recv(), bytes):
                if frame:
                    await self._chunks.put((name, frame))
        except ConnectionClosed:
            # LXD drops the connection without a close frame: whether all came is the operation's to say.
            pass
        await self._chunks.put((name, b""))

    async def _wait_end(self) -> OperationRecord:
        try:
            return await self.operation.wait()
        except LXDError:
            # A command that never ran, or a daemon that is gone: the server may not close the streams any more.
            await asyncio.gather(*(self._sockets[fd].close() for fd in ("1", "2", "0") if fd in self._sockets))
            if self.operation.record.final:
                return self.operation.record
            raise

    async def _tell(self, fd: str, message: str) -> None:
        try:
            await self._sockets[fd].send(message)
        except ConnectionClosed:
            return


async def _close(sockets: Mapping[str, ClientConnection]) -> None:
    await asyncio.gather(*(socket.close() for socket in sockets.values()), return_exceptions=True)
