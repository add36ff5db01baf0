"""Jobs that nobody waits for."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from lxdpy.errors import LxdpyError

logger = logging.getLogger(__name__)


class Background:
    """Jobs that run beside everything else; what they raise is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def spawn(self, job: Coroutine[Any, Any, object]) -> None:
        """Begin a job."""
        self.start(job)

    def start(self, job: Coroutine[Any, Any, object]) -> "asyncio.Task[object]":
        """The same, for who wants to know when it ends."""
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def finish(self) -> None:
        """Wait for the jobs that run."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        """End the jobs that run."""
        for task in self._tasks:
            task.cancel()
        await self.finish()

    def _finished(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            unexpected = None if isinstance(exc, LxdpyError) else exc
            logger.error("A background job failed: %s", exc, exc_info=unexpected)
