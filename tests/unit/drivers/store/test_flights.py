"""Shared jobs: started once, cancelled by the last who gives up, failed for all."""

import asyncio
from collections.abc import Coroutine

import pytest

from lxdpy.drivers.store.flights import Flights
from lxdpy.errors import LayerError


def run(body: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 10))


class Job:
    """A job that ends when it is told to."""

    def __init__(self) -> None:
        self.started = self.cancelled = 0
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> int:
        self.started += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            # What it cleans up takes a while.
            await asyncio.sleep(0.01)
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return self.started


def test_all_get_the_one_result() -> None:
    async def body() -> None:
        flights: Flights[int] = Flights()
        job = Job()
        tasks = [asyncio.create_task(flights.join("key", job)) for _ in range(5)]
        await asyncio.sleep(0)
        assert "key" in flights
        job.go.set()
        assert await asyncio.gather(*tasks) == [1] * 5
        assert "key" not in flights
        assert await flights.join("key", job) == 2

    run(body())


def test_all_get_the_one_failure() -> None:
    async def body() -> None:
        flights: Flights[int] = Flights()
        job = Job()
        job.failure = LayerError("no")
        tasks = [asyncio.create_task(flights.join("key", job)) for _ in range(3)]
        await asyncio.sleep(0)
        job.go.set()
        assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [LayerError] * 3

    run(body())


def test_one_who_gives_up_harms_nobody() -> None:
    async def body() -> None:
        flights: Flights[int] = Flights()
        job = Job()
        first, second = (asyncio.create_task(flights.join("key", job)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        job.go.set()
        assert await second == 1
        assert job.cancelled == 0

    run(body())


def test_the_last_who_gives_up_cancels_it_and_waits() -> None:
    async def body() -> None:
        flights: Flights[int] = Flights()
        job = Job()
        tasks = [asyncio.create_task(flights.join("key", job)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        # Who comes now waits until the old job has cleaned up, and starts a new one.
        await asyncio.sleep(0)
        late = asyncio.create_task(flights.join("key", job))
        await asyncio.wait(tasks)
        assert job.cancelled == 1
        await asyncio.sleep(0.01)
        assert job.started == 2
        job.go.set()
        assert await late == 2

    run(body())


def test_close() -> None:
    async def body() -> None:
        flights: Flights[int] = Flights()
        job = Job()
        task = asyncio.create_task(flights.join("key", job))
        while not job.started:
            await asyncio.sleep(0)
        await flights.close()
        assert job.cancelled == 1
        with pytest.raises(asyncio.CancelledError):
            await task

    run(body())
