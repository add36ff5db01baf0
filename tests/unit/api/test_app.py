"""The edge over a real socket: root, unknown paths, operations, bodies, who asked."""

import asyncio
import json
import logging
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response
from pydantic import BaseModel

from lxdpy.api import envelope
from lxdpy.api.deps import MAX_BODY_BYTES, body, integer
from lxdpy.api.edge import instances_prefix
from lxdpy.api.extensions import EXTENSIONS
from lxdpy.api.routing import Router
from lxdpy.operations import OperationProgress
from tests.fakes.api_server import Api, serve


class Thing(BaseModel):
    size: int
    names: list[str] | None = None


def with_api(tmp_path: Path, test: Callable[[Api], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve(tmp_path) as api:
            router = Router()

            @router.put("/1.0/things/{name:path}")
            async def put(request: Request) -> Response:
                thing = await body(request, Thing)
                integer(request, "timeout", 0)
                return envelope.sync({"name": request.path_params["name"], "size": thing.size})

            @router.get("/1.0/broken")
            async def broken(request: Request) -> Response:
                raise ValueError("secret")

            @router.get("/1.0/instances/echo")
            async def echo(request: Request) -> Response:
                return envelope.sync(instances_prefix(request.scope))

            api.app.router.routes[:0] = router.routes
            await test(api)

    asyncio.run(main())


async def forever(progress: OperationProgress) -> None:
    await asyncio.Event().wait()


def test_root(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await api.get("/"))["metadata"] == ["/1.0"]
        response = await api.http.request("GET", "/1.0?project=default", content=b'""\n')
        assert response.text.endswith("}\n")
        assert response.headers["etag"].startswith('"')
        server = response.json()["metadata"]
        assert server["api_extensions"] == list(EXTENSIONS)
        assert server["auth"] == "trusted"
        environment = server["environment"]
        assert environment["server"] == "lxdpy"
        assert environment["server_pid"] == os.getpid()
        assert environment["server_clustered"] is False
        assert set(environment["storage_supported_drivers"][0]) == {"Name", "Version", "Remote"}

    with_api(tmp_path, test)


def test_unknown_path_and_method(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await api.get("/1.0/nothing", 404))["error"] == "not found"
        assert (await api.get("/1.0/operations/", 404))["error"] == "not found"
        response = await api.http.post("/1.0/operations")
        assert response.status_code == 501
        assert response.json()["error"] == "not implemented"

    with_api(tmp_path, test)


def test_surprise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(api: Api) -> None:
        assert (await api.get("/1.0/broken", 500))["error"] == "Internal error"

    with_api(tmp_path, test)
    assert "secret" in caplog.text


def test_bodies(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async def put(content: bytes, path: str = "x") -> tuple[int, Any]:
            response = await api.http.put(f"/1.0/things/{path}", content=content)
            document = json.loads(response.text)
            return response.status_code, document["metadata"] or document["error"]

        assert await put(b'{"size": 1, "names": null, "more": {}}') == (200, {"name": "x", "size": 1})
        assert await put(b'{"size": 1}', "ghcr.io%2Ffoo%2Fbar:latest") == (
            200,
            {"name": "ghcr.io/foo/bar:latest", "size": 1},
        )
        for content in (b"", b"{", b"[]", b'{"size": "x"}', b'{"size": 1, "names": [1]}', b'\xff"'):
            status, message = await put(content)
            assert status == 400
            assert message.startswith("Invalid request body: ")
        assert "size" in (await put(b"{}"))[1]
        assert (await put(b" " * (MAX_BODY_BYTES + 1)))[0] == 400
        status, message = await put(b'{"size": 1}', "x?timeout=soon")
        assert (status, message) == (400, 'Invalid value "soon" of query parameter "timeout": not a number')

    with_api(tmp_path, test)


def test_old_name_of_instances(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        assert (await api.get("/1.0/instances/echo"))["metadata"] == "/1.0/instances"
        assert (await api.get("/1.0/containers/echo"))["metadata"] == "/1.0/containers"
        await api.get("/1.0/containersecho", 404)

    with_api(tmp_path, test)


def test_operations(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        operation = api.operations.start("Test", forever, resources={}, cancellable=True)
        path = operation.path
        assert (await api.get("/1.0/operations"))["metadata"] == {"running": [path]}
        assert (await api.get("/1.0/operations?recursion=1"))["metadata"]["running"][0]["id"] == operation.id
        assert (await api.get("/1.0/operations?project=other"))["metadata"] == {}
        assert (await api.get("/1.0/operations?all-projects=true"))["metadata"] == {"running": [path]}
        assert (await api.get(path))["metadata"] == operation.render()
        assert (await api.get(f"{path}/wait?timeout=0"))["metadata"]["status_code"] == 103
        waiting = asyncio.create_task(api.get(f"{path}/wait?timeout=-1"))
        await asyncio.sleep(0.05)
        assert (await api.http.delete(path)).json()["metadata"] == {}
        assert (await waiting)["metadata"]["status_code"] == 401
        assert (await api.http.delete(path)).status_code == 400
        assert (await api.get("/1.0/operations/none", 404))["error"] == "Operation not found"
        assert (await api.get("/1.0/operations/none/wait", 404))["error"] == "Operation not found"
        await api.get(f"{path}/websocket?secret=x", 400)
        await api.get("/1.0/events", 400)

    with_api(tmp_path, test)


def test_changes_are_logged_with_who_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(api: Api) -> None:
        await api.get("/1.0")
        await api.http.put("/1.0/things/a%0Ab", json={"size": 1})

    with caplog.at_level(logging.INFO, logger="lxdpy"):
        with_api(tmp_path, test)
    lines = [record.getMessage() for record in caplog.records if record.name == "lxdpy.api.edge"]
    assert lines == [f"PUT '/1.0/things/a\\nb' by uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}"]


def test_requestor_of_events(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        router = Router()

        @router.post("/1.0/announce")
        async def announce(request: Request) -> Response:
            api.events.lifecycle("instance-created", "/1.0/instances/web")
            return envelope.empty()

        api.app.router.routes[:0] = router.routes
        async with api.websocket("/1.0/events?type=lifecycle") as events:
            await api.http.post("/1.0/announce")
            event = json.loads(await events.recv())
        assert event["metadata"]["requestor"]["username"] == pwd.getpwuid(os.getuid()).pw_name

    with_api(tmp_path, test)
