"""Work that comes again and again while the daemon runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from lxdpy.errors import LxdpyError

logger = logging.getLogger(__name__)


class Periodic:
    """Does `job` first after `first_s`, then every `interval_s()` seconds (0: only when woken).

    A job that fails is logged, and does not end the row.
    """

    def __init__(
        self, name: str, job: Callable[[], Awaitable[None]], *, interval_s: Callable[[], float], first_s: float
    ) -> None:
        self._name = name
        self._job = job
        self._interval_s = interval_s
        self._first_s = first_s
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """The interval has changed, or there is something to do: don't wait, unless there is no interval."""
        self._woken.set()

    async def close(self) -> None:
        """End, also in the middle of a job."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        delay = self._first_s
        while True:
            await self._wait(delay if self._interval_s() else 0.0)
            if self._interval_s():
                await self._once()
            delay = self._interval_s()

    async def _wait(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay or None):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _once(self) -> None:
        try:
            await self._job()
        except LxdpyError as exc:
            logger.warning("%s: %s", self._name, exc)
        except Exception:
            logger.exception("%s failed", self._name)
