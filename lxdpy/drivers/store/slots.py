"""So many jobs at once; the images that wait take turns, so that one with many layers does not keep others out."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Slots:
    """`limit` slots; those who wait for one are served by group, round robin."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, group: Hashable) -> AsyncIterator[None]:
        """Hold a slot."""
        await self.acquire(group)
        try:
            yield
        finally:
            self.release()

    async def acquire(self, group: Hashable) -> None:
        """Wait for a slot, to be given back by `release`."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(group, turn)
            else:
                # The slot came together with the cancellation.
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        while self._free and self._waiting:
            group, queue = next(iter(self._waiting.items()))
            # To the end of the line, if there is more to come of this group.
            del self._waiting[group]
            turn = queue.popleft()
            if queue:
                self._waiting[group] = queue
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _forget(self, group: Hashable, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(group)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[group]
