"""The asynchronous client against a server that speaks LXD's protocol."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lxdpy.client import AsyncClient, ConnectionFailed, NotFound
from tests.fakes.lxd_server import FINGERPRINT, FakeLxd


def act(socket: str, action: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncClient(socket, timeout=10) as client:
            await action(client)

    asyncio.run(main())


def test_pull_create_start_exec_delete(server: FakeLxd, socket: str) -> None:
    async def action(client: AsyncClient) -> None:
        assert (await client.images.pull("alpine:3.20")).fingerprint == FINGERPRINT
        instance = await client.instances.create("alpine:3.20", "web")
        await instance.start()
        results = await asyncio.gather(*(instance.execute(["echo", str(n)]) for n in range(5)))
        assert [result.stdout for result in results] == [b"%d\n" % n for n in range(5)]
        await instance.delete(force=True)
        with pytest.raises(NotFound):
            await client.instances.get("web")

    act(socket, action)


def test_an_operation_can_be_awaited_and_watched(server: FakeLxd, socket: str) -> None:
    async def action(client: AsyncClient) -> None:
        operation = await client.images.begin_pull("alpine:3.20")
        states = [record.status async for record in operation.progress()]
        assert states[-1] == "Success"
        assert (await operation).metadata["fingerprint"] == FINGERPRINT

    act(socket, action)


def test_cancelling_execute_kills_the_command(server: FakeLxd, socket: str) -> None:
    async def action(client: AsyncClient) -> None:
        instance = await client.instances.create("alpine:3.20", "web")
        await instance.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await instance.execute(["sleep", "60"])
        async with asyncio.timeout(10):
            while any(o.record.status == "Running" for o in await client.operations.list()):
                await asyncio.sleep(0.01)

    act(socket, action)


def test_more_waits_than_a_connection_pool_has(server: FakeLxd, socket: str) -> None:
    async def action(client: AsyncClient) -> None:
        instance = await client.instances.create("alpine:3.20", "web")
        await instance.start()
        waits = [asyncio.create_task(instance.wait()) for _ in range(150)]
        while sum("/wait" in path for _, path, _ in server.requests) < 150:
            await asyncio.sleep(0.01)
        await instance.stop(force=True)
        assert {ended.status for ended in await asyncio.gather(*waits)} == {"Stopped"}

    act(socket, action)


def test_the_event_stream_says_when_it_breaks(server: FakeLxd, socket: str) -> None:
    async def action(client: AsyncClient) -> None:
        events = client.events()
        waiting = asyncio.create_task(anext(events))
        while not server.listeners:
            await asyncio.sleep(0.01)
        server.drop_listeners()
        with pytest.raises(ConnectionFailed, match="Event stream"):
            await waiting

    act(socket, action)
