"""A client at an instance's console, by LXD's protocol: websockets "0" (the terminal, both directions) and "control".

Data are binary messages; a control message {"command": "window-resize", "args": {"width": "80", "height": "24"}} tells
the size. It ends when the client closes either, when another client takes the console by force, and with the container.
"""

import asyncio
import json
import logging
import tty
from collections.abc import Mapping
from typing import Any

from lxdpy.drivers.base import Console, RunningContainer
from lxdpy.progress import Progress
from lxdpy.services.instances.relay import End, Output, feed
from lxdpy.websocket import Connection, Sockets

logger = logging.getLogger(__name__)

_MAX_SIZE = 65535


class ConsoleSession:
    """One attachment: `run` is the operation's job, `sockets` and `metadata` are what clients see of it."""

    def __init__(
        self, container: RunningContainer, width: int, height: int, former: "ConsoleSession | None" = None
    ) -> None:
        """`former` held the console before, and is waited for."""
        self._container = container
        self._size = (width, height)
        self._former = former
        self.sockets = Sockets(("0", "control"))
        self._leave = asyncio.Event()
        self._done = asyncio.Event()

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the operation says from its beginning: the secrets."""
        return {"fds": dict(self.sockets.secrets)}

    @property
    def done(self) -> bool:
        """Whether it has let go of the console."""
        return self._done.is_set()

    def detach(self) -> None:
        """Make it end."""
        self._leave.set()

    async def run(self, progress: Progress) -> Mapping[str, object] | None:
        """Relay until the end. Raises InvalidRequestError when websockets do not connect in time, ConflictError when
        the container has ended by then, BusyError, WorkerError."""
        try:
            (client,) = await self.sockets.connections(("0",))
            if self._former is not None:
                await self._former._done.wait()
                self._former = None
            console = await self._container.console()
            try:
                await self._attend(console, client)
            finally:
                console.close()
        finally:
            self._done.set()
            await self.sockets.close()
        return None

    async def _attend(self, console: Console, client: Connection) -> None:
        width, height = self._size
        if width and height:
            await console.resize(width, height)
        end = End(console.fd)
        # This is liblxc's relay to the console, and not that itself, which has done what a terminal does to a line.
        tty.setraw(console.fd)
        output = Output(end, client, on_lost=lambda: None)
        jobs = [
            asyncio.create_task(job)
            for job in (
                output.run(),
                _input(client, end),
                _control(self.sockets, console),
                self._leave.wait(),
            )
        ]
        ended = asyncio.create_task(self._container.init_ended())
        try:
            await asyncio.wait([*jobs, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not jobs[0].done():
                # What init printed last is on its way.
                output.process_ended()
                await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*jobs, ended):
                task.cancel()
            results = await asyncio.gather(*jobs, ended, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _input(client: Connection, end: End) -> None:
    """Write what the client types until it is gone; an end of its input alone is none."""
    await feed(client, end, close=False)
    while await client.receive() is not None:
        pass


async def _control(sockets: Sockets, console: Console) -> None:
    """Do what control messages say, until control is lost."""
    connection = await sockets.connection("control")
    while (message := await connection.receive()) is not None:
        try:
            await _obey(json.loads(message), console)
        except (ValueError, TypeError, KeyError) as exc:
            logger.debug("Control message %.200r of a console is not understood: %s", message, exc)


async def _obey(message: dict[str, Any], console: Console) -> None:
    """Commands that are not known are ignored, as LXD does."""
    if message["command"] == "window-resize":
        width, height = int(message["args"]["width"]), int(message["args"]["height"])
        if 0 < width <= _MAX_SIZE and 0 < height <= _MAX_SIZE:
            await console.resize(width, height)
