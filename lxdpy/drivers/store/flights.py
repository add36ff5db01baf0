"""One job for all who want the same thing: the first one starts it, the last one who gives up cancels it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Jobs under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    async def join(self, key: Hashable, job: Callable[[], Coroutine[None, None, T]]) -> T:
        """The result of the job `key`, which is started unless it is under way. Raises what the job raises."""
        while (flight := self._flights.get(key)) is not None and flight.dying:
            # It holds what a new one needs until it has cleaned up.
            await asyncio.wait([flight.task])
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(job()))
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.dying = True
                flight.task.cancel()
                await asyncio.wait([flight.task])

    async def close(self) -> None:
        """Cancel all jobs and wait for their end."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _landed(self, key: Hashable, flight: "_Flight[T]") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            # Somebody may have given up in the moment it failed.
            flight.task.exception()


class _Flight(Generic[T]):
    __slots__ = ("dying", "task", "waiting")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiting = 0
        self.dying = False
