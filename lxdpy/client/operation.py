"""Background operations: wait, cancel, watch."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from websockets.exceptions import ConnectionClosed

from lxdpy.client.errors import WaitTimeout
from lxdpy.client.records import OperationRecord
from lxdpy.client.requests import Request, path
from lxdpy.client.transport import Transport

OnProgress = Callable[[OperationRecord], None]

# The server holds an answer back at most this long, so that a lost connection is noticed.
WAIT_SLICE_S = 60.0


class AsyncOperation:
    """One background operation; `await operation` waits for its end."""

    def __init__(self, transport: Transport, record: OperationRecord) -> None:
        self._transport = transport
        self.record = record

    @property
    def id(self) -> str:
        """The operation's UUID."""
        return self.record.id

    def __await__(self) -> Generator[Any, None, OperationRecord]:
        return self.wait().__await__()

    async def refresh(self) -> OperationRecord:
        """Ask for its state. Raises NotFound some seconds after its end, when the server has forgotten it."""
        answer = await self._transport.send(Request("GET", path("operations", self.id)))
        self.record = OperationRecord.parse(answer.metadata)
        return self.record

    async def wait(self, timeout_s: float | None = None, on_progress: OnProgress | None = None) -> OperationRecord:
        """Wait for its end; `on_progress` gets every state on the way, the last one too.

        Raises OperationFailed if it failed, WaitTimeout if the time is over first: it then goes on.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if on_progress is None:
                    await self._wait_final()
                else:
                    async for record in self.progress():
                        on_progress(record)
        except TimeoutError as exc:
            if isinstance(exc, WaitTimeout):
                raise
            raise WaitTimeout(
                f"Operation {self.id} ({self.record.description}) still runs after {timeout_s} s"
            ) from exc
        return self.record.raise_for_status()

    async def progress(self) -> AsyncGenerator[OperationRecord, None]:
        """Every state from now to the end; does not raise for a failure."""
        if self.record.final:
            yield self.record
            return
        # First listen, then ask: nothing can fall in between.
        events = await self._transport.websocket(path("events"), {"type": "operation"})
        try:
            yield await self.refresh()
            while not self.record.final:
                try:
                    event = json.loads(await events.recv())
                except ConnectionClosed:
                    yield await self._wait_final()
                    return
                if (event.get("metadata") or {}).get("id") == self.id:
                    self.record = OperationRecord.parse(event["metadata"])
                    yield self.record
        finally:
            await events.close()

    async def cancel(self) -> None:
        """Ask the server to cancel it. Raises LXDError 400 if this operation can't be."""
        await self._transport.send(Request("DELETE", path("operations", self.id)))

    async def _wait_final(self) -> OperationRecord:
        while not self.record.final:
            request = Request("GET", path("operations", self.id, "wait"), {"timeout": f"{WAIT_SLICE_S:.0f}"})
            answer = await self._transport.send(request, extra_s=WAIT_SLICE_S)
            self.record = OperationRecord.parse(answer.metadata)
        return self.record
