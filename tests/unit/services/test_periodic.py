"""Work that comes again and again: when, and what its failures do. Intervals are so long, or so short, that only being
woken decides."""

import asyncio
from collections.abc import Awaitable, Callable

from lxdpy.errors import WorkerError
from lxdpy.services.periodic import Periodic

LONG = 1e6


class Job:
    """Counts its runs; each may be awaited."""

    def __init__(self, *failures: Exception) -> None:
        self.runs = 0
        self._failures = list(failures)
        self._ran = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        self._ran.set()
        if self._failures:
            raise self._failures.pop(0)

    async def next(self) -> None:
        await asyncio.wait_for(self._ran.wait(), 10)
        self._ran.clear()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_first_and_then_at_each_interval() -> None:
    async def scenario() -> None:
        job = Job()
        task = Periodic("job", job, interval_s=lambda: 0.001, first_s=0.001)
        task.start()
        for _ in range(3):
            await job.next()
        await task.close()

    run(scenario)


def test_waking() -> None:
    async def scenario() -> None:
        job = Job()
        task = Periodic("job", job, interval_s=lambda: LONG, first_s=LONG)
        task.start()
        await asyncio.sleep(0)
        assert job.runs == 0
        for count in (1, 2):
            task.wake()
            await job.next()
            assert job.runs == count
        await task.close()

    run(scenario)


def test_no_interval_is_never_until_there_is_one() -> None:
    async def scenario() -> None:
        job, interval = Job(), 0.0
        task = Periodic("job", job, interval_s=lambda: interval, first_s=0.001)
        task.start()
        task.wake()
        await asyncio.sleep(0.01)
        assert job.runs == 0
        interval = LONG
        task.wake()
        await job.next()
        await task.close()

    run(scenario)


def test_a_failure_is_not_the_last_run() -> None:
    async def scenario() -> None:
        job = Job(WorkerError("no"), ValueError("surprise"))
        task = Periodic("job", job, interval_s=lambda: 0.001, first_s=0.001)
        task.start()
        for _ in range(3):
            await job.next()
        await task.close()
        await task.close()

    run(scenario)
