"""Websockets over a real socket: events, and the secrets of operations."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lxdpy.operations import OperationProgress
from lxdpy.websocket import Sockets
from tests.fakes.api_server import Api, serve


def with_api(tmp_path: Path, test: Callable[[Api], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve(tmp_path) as api:
            await test(api)

    asyncio.run(main())


async def refused(api: Api, path: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await api.connect(path)
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"")["error"]


def test_events_of_an_operation(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async def run(progress: OperationProgress) -> None:
            progress.note({"step_progress": "half"})
            await asyncio.sleep(0.02)

        async with api.websocket("/1.0/events") as events:
            operation = api.operations.start("Test", run, resources={})
            seen = [json.loads(await events.recv()) for _ in range(4)]
        assert [event["metadata"]["status"] for event in seen] == ["Pending", "Running", "Running", "Success"]
        assert seen[2]["metadata"]["metadata"] == {"step_progress": "half"}
        assert seen[3]["metadata"] == operation.render()
        assert {event["type"] for event in seen} == {"operation"}

    with_api(tmp_path, test)


def test_types_of_events(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with api.websocket("/1.0/events?type=lifecycle,logging&all-projects=true") as events:
            api.operations.start("Test", _nothing, resources={})
            api.events.lifecycle("instance-started", "/1.0/instances/web")
            assert json.loads(await events.recv())["type"] == "lifecycle"
        assert await refused(api, "/1.0/events?type=gossip") == (
            400,
            'Cannot send events: "gossip" isn\'t a supported event type',
        )
        status, _ = await refused(api, "/1.0/events?all-projects=true&project=x")
        assert status == 400

    with_api(tmp_path, test)


async def _nothing(progress: OperationProgress) -> None:
    return None


def test_listeners_that_leave_are_forgotten(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with api.websocket("/1.0/events"):
                pass
        for _ in range(100):
            if len(asyncio.all_tasks()) <= before:
                break
            await asyncio.sleep(0.02)
        assert len(asyncio.all_tasks()) <= before

    with_api(tmp_path, test)


def test_events_end_with_the_daemon(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with api.websocket("/1.0/events") as events:
            api.events.close()
            with pytest.raises(ConnectionClosed):
                await events.recv()

    with_api(tmp_path, test)


def test_secrets(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        sockets = Sockets(("0", "1"))
        done = asyncio.Event()

        async def run(progress: OperationProgress) -> None:
            connection = await sockets.connection("0")
            await connection.send_text(str(await connection.receive()))
            await done.wait()
            await sockets.close()

        operation = api.operations.start("Test", run, resources={}, sockets=sockets)
        path = f"{operation.path}/websocket?secret="
        assert await refused(api, path) == (403, "Cannot connect websocket: permission denied")
        assert await refused(api, path + "x" * 64) == (403, "Cannot connect websocket: permission denied")
        async with api.websocket(path + sockets.secrets["0"]) as connection:
            await connection.send("hello")
            assert await connection.recv() == "hello"
            status, _ = await refused(api, path + sockets.secrets["0"])
            assert status == 403
            done.set()
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        status, _ = await refused(api, path + sockets.secrets["1"])
        assert status == 403

    with_api(tmp_path, test)


def test_operations_without_websockets(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        operation = api.operations.start("Test", _nothing, resources={})
        assert (await refused(api, f"{operation.path}/websocket?secret=x"))[0] == 404
        assert await refused(api, "/1.0/operations/none/websocket?secret=x") == (404, "Operation not found")

    with_api(tmp_path, test)
