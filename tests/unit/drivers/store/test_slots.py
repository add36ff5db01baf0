"""Slots: how many, in which order, and what becomes of those who give up."""

import asyncio
from collections.abc import Coroutine

from lxdpy.drivers.store.slots import Slots


def run(body: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 10))


def test_limit() -> None:
    async def body() -> None:
        slots = Slots(3)
        running = most = 0

        async def job() -> None:
            nonlocal running, most
            async with slots.slot("image"):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(job() for _ in range(20)))
        assert most == 3

    run(body())


def test_groups_take_turns() -> None:
    async def body() -> None:
        slots = Slots(1)
        order: list[str] = []

        async def job(group: str) -> None:
            async with slots.slot(group):
                order.append(group)
                await asyncio.sleep(0)

        await asyncio.gather(*(job(group) for group in ["a"] * 5 + ["b"] * 2 + ["c"]))
        assert order == ["a", "a", "b", "c", "a", "b", "a", "a"]

    run(body())


def test_who_gives_up_takes_no_slot() -> None:
    async def body() -> None:
        slots = Slots(1)
        await slots.acquire("a")
        waiting = [asyncio.create_task(slots.acquire(group)) for group in ("b", "b", "c")]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.wait([waiting[0], waiting[2]])
        slots.release()
        await waiting[1]
        slots.release()
        await slots.acquire("d")

    run(body())


def test_slot_that_comes_with_the_cancellation_goes_on() -> None:
    async def body() -> None:
        slots = Slots(1)
        await slots.acquire("a")
        first, second = (asyncio.create_task(slots.acquire("b")) for _ in range(2))
        await asyncio.sleep(0)
        slots.release()
        first.cancel()
        await asyncio.wait([first])
        await second

    run(body())
