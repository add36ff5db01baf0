"""Steps that must not stop half-way: what is on disk and what is in memory change together, or the two disagree."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uninterrupted(job: Coroutine[Any, Any, T]) -> T:
    """Run `job` to its end even when the caller is cancelled meanwhile, who is told of that only then."""
    task = asyncio.create_task(job)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            # Seen: the cancellation is what the caller learns of.
            task.exception()
        raise
