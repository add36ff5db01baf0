"""Exec's websocket protocol, over a real socket, on real processes."""

import asyncio
import gc
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from lxdpy import websocket
from lxdpy.errors import InvalidRequestError
from lxdpy.operations import Operation, Status
from lxdpy.services.instances.exec import ExecRequest, ExecSession
from tests.fakes.api_process import HostContainer
from tests.fakes.api_server import Api, serve

SH = ("/bin/sh", "-c")


class Exec:
    """An exec operation and its websockets, as a client has them."""

    def __init__(self, api: Api, container: HostContainer, session: ExecSession) -> None:
        self.container = container
        self.operation: Operation = api.operations.start(
            "Executing command", session.run, resources={}, metadata=session.metadata, sockets=session.sockets
        )
        self.fds: dict[str, str] = self.operation.metadata.get("fds", {})  # type: ignore[union-attr,assignment]
        self._api = api
        self._open: list[ClientConnection] = []

    async def connect(self, name: str) -> ClientConnection:
        connection = await self._api.connect(f"{self.operation.path}/websocket?secret={self.fds[name]}")
        self._open.append(connection)
        return connection

    async def result(self) -> tuple[Status, Any]:
        assert await self.operation.wait(30), "the operation does not end"
        return self.operation.status, (self.operation.metadata or {}).get("return")

    async def close(self) -> None:
        for connection in self._open:
            await connection.close()


async def read(connection: ClientConnection) -> bytes:
    """Everything until the empty text message."""
    data = bytearray()
    while message := await connection.recv():
        assert isinstance(message, bytes)
        data += message
    assert message == ""
    return bytes(data)


@asynccontextmanager
async def started(
    api: Api, tmp_path: Path, *argv: str, container: HostContainer | None = None, **how: Any
) -> AsyncIterator[Exec]:
    container = container or HostContainer()
    request = ExecRequest(argv=argv, environment={"TERM": "dumb"}, **{"wait_for_websocket": True, **how})
    run = Exec(api, container, ExecSession(container, request, tmp_path / "logs"))  # type: ignore[arg-type]
    try:
        yield run
    finally:
        container.kill_all()
        await run.close()


def with_api(tmp_path: Path, test: Callable[[Api], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve(tmp_path) as api:
            await test(api)

    asyncio.run(main())


def test_non_interactive(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, *SH, "cat; echo err >&2; exit 6") as run:
            body = run.operation.render()
            assert body["class"] == "websocket"
            assert set(run.fds) == {"0", "1", "2", "control"}
            assert all(len(secret) == 64 for secret in run.fds.values())
            await run.connect("control")
            stdin, stdout, stderr = [await run.connect(name) for name in ("0", "1", "2")]
            await stdin.send(b"hello ")
            await stdin.send(b"world")
            await stdin.send("")
            assert await read(stdout) == b"hello world"
            assert await read(stderr) == b"err\n"
            assert await run.result() == (Status.SUCCESS, 6)

    with_api(tmp_path, test)


def test_control_is_optional(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "echo", "hi") as run:
            _, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]
            assert await read(stdout) == b"hi\n"
            assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


def test_64_megabytes_pass_unchanged(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        sent = hashlib.sha256()
        block = os.urandom(1 << 20)
        async with started(api, tmp_path, "cat") as run:
            stdin, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]

            async def send() -> None:
                for _ in range(64):
                    sent.update(block)
                    await stdin.send(block)
                await stdin.send("")

            sending = asyncio.create_task(send())
            received = hashlib.sha256(await read(stdout))
            await sending
            assert received.digest() == sent.digest()
            assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


def test_a_client_that_does_not_read_stops_the_process(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "head", "-c", str(64 << 20), "/dev/zero") as run:
            _, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]
            # The client's library reads ahead only so far; 64 MB fit into no buffer between.
            assert not await run.operation.wait(0.5)
            assert len(await read(stdout)) == 64 << 20
            assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


def test_process_that_reads_nothing(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "true") as run:
            stdin, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]
            with pytest.raises(ConnectionClosed):
                await _send_until_closed(stdin)
            assert await read(stdout) == b""
            assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


async def _send_until_closed(connection: ClientConnection) -> None:
    while True:
        await connection.send(b"x" * 100_000)


def test_background_process_that_holds_stdout_does_not_hold_the_operation(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, *SH, "sleep 30 & echo $!") as run:
            _, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]
            pid = int(await read(stdout))
            try:
                assert await run.result() == (Status.SUCCESS, 0)
            finally:
                os.kill(pid, signal.SIGKILL)

    with_api(tmp_path, test)


def test_interactive_terminal(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        script = "stty -echo; tty -s && stty size && read line && echo got $line && stty size"
        async with started(api, tmp_path, *SH, script, interactive=True, width=80, height=24) as run:
            assert set(run.fds) == {"0", "control"}
            control, terminal = await run.connect("control"), await run.connect("0")
            assert await terminal.recv() == b"24 80\r\n"
            await control.send('{"command":"window-resize","args":{"width":"99","height":"33"}}')
            await control.send("nonsense")
            await control.send('{"command":"dance"}')
            await control.send('{"command":"signal","signal":"x"}')
            await control.send("[]")
            await asyncio.sleep(0.1)
            await terminal.send(b"it\n")
            assert await read(terminal) == b"got it\r\n33 99\r\n"
            assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


def test_a_terminal_whose_client_has_no_size(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, *SH, "stty size", interactive=True) as run:
            await run.connect("control")
            assert await read(await run.connect("0")) == b"25 80\r\n"
            assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


def test_interactive_output_is_never_lost(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for number in range(50):
            async with started(api, tmp_path, "echo", f"run {number}", interactive=True) as run:
                _, terminal = await run.connect("control"), await run.connect("0")
                assert await read(terminal) == f"run {number}\r\n".encode()
                assert await run.result() == (Status.SUCCESS, 0)

    with_api(tmp_path, test)


def test_signal(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, *SH, "echo ready; exec sleep 30") as run:
            control = await run.connect("control")
            _, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]
            assert await stdout.recv() == b"ready\n"
            await control.send(json.dumps({"command": "signal", "args": None, "signal": 15}))
            assert await run.result() == (Status.SUCCESS, 143)

    with_api(tmp_path, test)


def test_losing_control_kills(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "sleep", "30") as run:
            control = await run.connect("control")
            for name in ("0", "1", "2"):
                await run.connect(name)
            await control.close()
            assert await run.result() == (Status.SUCCESS, 137)

    with_api(tmp_path, test)


def test_losing_stdout_is_a_broken_pipe(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "yes") as run:
            _, stdout, _ = [await run.connect(name) for name in ("0", "1", "2")]
            await stdout.recv()
            await stdout.close()
            assert await run.result() == (Status.SUCCESS, 128 + signal.SIGPIPE)

    with_api(tmp_path, test)


@pytest.mark.parametrize(
    ("argv", "code", "err"),
    [(("/no/such/command",), 127, "Command not found"), (("/etc/passwd",), 126, "Command not executable")],
)
def test_commands_that_can_not_be(tmp_path: Path, argv: tuple[str, ...], code: int, err: str) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, *argv, wait_for_websocket=False) as run:
            assert await run.result() == (Status.FAILURE, code)
            assert run.operation.err == err

    with_api(tmp_path, test)


def test_connecting_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "true") as run:
            _, stdout = await run.connect("0"), await run.connect("1")
            assert await run.result() == (Status.FAILURE, None)
            assert run.operation.err == "Timed out waiting for websockets to connect"
            assert run.container.processes == []
            with pytest.raises(ConnectionClosed):
                await stdout.recv()

    monkeypatch.setattr(websocket, "CONNECT_TIMEOUT_S", 0.2)
    with_api(tmp_path, test)


def test_recorded_output(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        script = "echo out; echo err >&2; exit 6"
        async with started(api, tmp_path, *SH, script, wait_for_websocket=False, record_output=True) as run:
            assert run.operation.render()["class"] == "task"
            assert await run.result() == (Status.SUCCESS, 6)
            output: dict[str, str] = run.operation.metadata["output"]  # type: ignore[index,assignment]
            assert all(path.startswith("/1.0/instances/web/logs/exec_") for path in output.values())
            texts = {name: (tmp_path / "logs" / path.rpartition("/")[2]).read_text() for name, path in output.items()}
            assert texts == {"1": "out\n", "2": "err\n"}

    with_api(tmp_path, test)


def test_output_that_nobody_wants(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, *SH, "cat; echo out; exit 3", wait_for_websocket=False) as run:
            assert await run.result() == (Status.SUCCESS, 3)
            assert not (tmp_path / "logs").exists()

    with_api(tmp_path, test)


@pytest.mark.parametrize("interactive", [False, True])
def test_cancelling_kills(tmp_path: Path, interactive: bool) -> None:
    async def test(api: Api) -> None:
        async with started(api, tmp_path, "sleep", "30", interactive=interactive) as run:
            for name in run.fds:
                await run.connect(name)
            while not run.container.processes:
                await asyncio.sleep(0.01)
            await api.operations.drain(0)
            assert run.operation.status is Status.CANCELLED
            assert (await run.container.processes[0].wait()).signal == signal.SIGKILL

    with_api(tmp_path, test)


def test_what_can_not_be_executed(tmp_path: Path) -> None:
    for request in (
        ExecRequest(argv=(), environment={}),
        ExecRequest(argv=("",), environment={}),
        ExecRequest(argv=("a\0b",), environment={}),
        ExecRequest(argv=("a",), environment={"B": "\0"}),
        ExecRequest(argv=("a",), environment={}, wait_for_websocket=True, record_output=True),
    ):
        with pytest.raises(InvalidRequestError):
            ExecSession(HostContainer(), request, tmp_path)  # type: ignore[arg-type]


def test_hundreds_leave_nothing(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async def once(*, interactive: bool) -> None:
            async with started(api, tmp_path, "true", interactive=interactive) as run:
                connections = [await run.connect(name) for name in run.fds]
                await read(connections[0] if interactive else connections[1])
                assert await run.result() == (Status.SUCCESS, 0)

        async def settled() -> tuple[int, int]:
            # Connections close a moment after the last message.
            for _ in range(100):
                gc.collect()
                counts = (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()))
                await asyncio.sleep(0.02)
                if counts == (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())):
                    break
            return counts

        await once(interactive=True)
        await once(interactive=False)
        before = await settled()
        for number in range(200):
            await once(interactive=number % 2 == 0)
        after = await settled()
        assert after <= before

    with_api(tmp_path, test)
