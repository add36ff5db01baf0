"""The slots of one layer's job: what it may do, and when."""

import asyncio
from collections.abc import Hashable
from contextlib import suppress

from lxdpy.drivers.store.slots import Slots
from lxdpy.drivers.zygote import Job
from lxdpy.errors import WorkerError


class Turn:
    """The slots of one job: one to fetch, if it does, given back when all is fetched; one to unpack."""

    def __init__(self, downloads: Slots | None, unpacks: Slots, group: Hashable) -> None:
        self._downloads = downloads
        self._unpacks = unpacks
        self._group = group
        self._fetching = False
        self._unpacking = False
        self._waiting: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Wait until the job may start."""
        if self._downloads is None:
            await self._unpacks.acquire(self._group)
            self._unpacking = True
        else:
            await self._downloads.acquire(self._group)
            self._fetching = True

    async def started(self, job: Job) -> None:
        """The job runs: tell it to unpack as soon as it may."""
        if self._unpacking:
            await job.send({"unpack": True})
        else:
            self._waiting = asyncio.create_task(self._let_unpack(job))

    def fetched(self) -> None:
        """The job needs the network no more."""
        if self._fetching and self._downloads is not None:
            self._fetching = False
            self._downloads.release()

    async def end(self) -> None:
        """Give back what is held."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])
        self.fetched()
        if self._unpacking:
            self._unpacking = False
            self._unpacks.release()

    async def _let_unpack(self, job: Job) -> None:
        await self._unpacks.acquire(self._group)
        self._unpacking = True
        # A job that has died already says so itself.
        with suppress(WorkerError):
            await job.send({"unpack": True})
