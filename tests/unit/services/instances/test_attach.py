"""Clients at a console."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from lxdpy.drivers.base import ExitStatus
from lxdpy.errors import BusyError, InvalidRequestError
from lxdpy.progress import NoProgress
from lxdpy.services.instances import Action, Stop
from lxdpy.services.instances.attach import ConsoleSession
from tests.fakes.drivers import FakeConsole, FakeContainer
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]


@dataclass
class Client:
    """One end of a websocket."""

    sent: asyncio.Queue[bytes | str | None] = field(default_factory=asyncio.Queue)
    got: bytes = b""
    closed: bool = False

    async def receive(self) -> bytes | str | None:
        message = await self.sent.get()
        if message is None:
            # Whoever is gone stays so.
            self.sent.put_nowait(None)
        return message

    async def send_bytes(self, data: bytes) -> None:
        self.got += data

    async def send_text(self, text: str) -> None:
        assert text == ""

    async def close(self) -> None:
        self.closed = True
        self.sent.put_nowait(None)


@dataclass
class Attached:
    """A client at a console."""

    session: ConsoleSession
    job: "asyncio.Task[object]"
    terminal: Client
    control: Client


async def attach(host: Host, *, force: bool = False) -> Attached:
    session = host.instances.attach("web", 80, 24, force=force)
    job = asyncio.create_task(session.run(NoProgress()))
    attached = Attached(session, job, Client(), Client())
    await session.sockets.attach("control", attached.control)
    await session.sockets.attach("0", attached.terminal)
    return attached


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


async def opened(container: FakeContainer, count: int = 1) -> FakeConsole:
    await until(lambda: len(container.consoles) == count)
    return container.consoles[-1]


def test_keys_output_and_size(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        attached = await attach(host)
        console = await opened(container)
        attached.terminal.sent.put_nowait(b"keys\n")
        assert await asyncio.to_thread(os.read, console.init, 100) == b"keys\n"
        # An end of the client's input is no end of its interest.
        attached.terminal.sent.put_nowait("")
        os.write(console.init, b"output")
        await until(lambda: attached.terminal.got == b"output")
        for message in (
            "nonsense",
            '{"command": "window-resize", "args": {"width": "a"}}',
            json.dumps({"command": "window-resize", "args": {"width": "0", "height": "44"}}),
            json.dumps({"command": "window-resize", "args": {"width": "120", "height": "44"}}),
        ):
            attached.control.sent.put_nowait(message)
        await until(lambda: console.sizes == [(80, 24), (120, 44)])
        attached.control.sent.put_nowait(None)
        await attached.job
        assert (console.closed, attached.terminal.closed, attached.control.closed) == (True, True, True)
        assert ("instance-console", "/1.0/instances/web") in host.events

    play(scenario)


@pytest.mark.parametrize("how", ["terminal", "container", "hangup"])
def test_other_ends(play: Play, how: str) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        attached = await attach(host)
        console = await opened(container)
        os.write(console.init, b"last words")
        match how:
            case "terminal":
                await until(lambda: attached.terminal.got == b"last words")
                attached.terminal.sent.put_nowait(None)
            case "container":
                container.end(ExitStatus(0, None))
            case "hangup":
                console.hang_up()
        async with asyncio.timeout(5):
            await attached.job
        assert attached.terminal.got == b"last words"
        assert console.closed

    play(scenario)


def test_one_at_a_time_unless_by_force(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host)
        assert container is not None
        first = await attach(host)
        await opened(container)
        with pytest.raises(BusyError, match="a client is attached already"):
            host.instances.attach("web", 80, 24, force=False)
        second = await attach(host, force=True)
        await first.job
        await opened(container, 2)
        assert first.terminal.closed
        assert not second.terminal.closed
        second.control.sent.put_nowait(None)
        await second.job
        third = await attach(host)
        await opened(container, 3)
        third.control.sent.put_nowait(None)
        await third.job

    play(scenario)


def test_refused(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        with pytest.raises(InvalidRequestError, match="Instance is not running"):
            host.instances.attach("web", 80, 24, force=False)
        await host.instances.act("web", Action.START, Stop())
        await host.instances.act("web", Action.FREEZE, Stop())
        with pytest.raises(InvalidRequestError, match="Instance is frozen"):
            host.instances.attach("web", 80, 24, force=False)

    play(scenario)


def test_reading_and_emptying_the_log_is_announced(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, start=False)
        host.instances.logs.console("web")
        await host.instances.logs.clear_console("web")
        [part async for part in await host.instances.logs.read("web", "lxc.log")]
        assert [event[0] for event in host.events if event[1] == "/1.0/instances/web"][-3:] == [
            "instance-console-retrieved",
            "instance-console-reset",
            "instance-log-retrieved",
        ]

    play(scenario)
