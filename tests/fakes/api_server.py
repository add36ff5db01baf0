"""The API on a unix socket, served by the real uvicorn in this event loop, on services in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, unix_connect

from lxdpy.api.app import create_app
from lxdpy.api.errors import http_status
from lxdpy.api.server import server_config
from lxdpy.operations import Events, Operations


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


@dataclass
class Api:
    """What a test talks to."""

    app: FastAPI
    socket: Path
    events: Events
    operations: Operations
    http: httpx.AsyncClient

    async def get(self, path: str, status: int = 200, **headers: str) -> dict[str, Any]:
        """GET; the envelope."""
        response = await self.http.get(path, headers=headers)
        assert response.status_code == status, response.text
        return dict(json.loads(response.text))

    def websocket(self, path: str) -> unix_connect:
        """A websocket as a context manager."""
        return unix_connect(str(self.socket), f"ws://localhost{path}", max_size=None, compression=None)

    async def connect(self, path: str) -> ClientConnection:
        """An open websocket."""
        return await self.websocket(path)


def api_app(**services: Any) -> tuple[FastAPI, Events, Operations]:
    """The application on `services` (what is not given, is not there)."""
    events = Events()
    operations = Operations(events, error_code=http_status)
    defaults = {
        "instances": SimpleNamespace(on_change=lambda listener: None),
        "server_config": SimpleNamespace(on_change=lambda listener: None, values={}),
        "lxc_version": "5.0.2",
    }
    app = create_app(SimpleNamespace(**{**defaults, "events": events, "operations": operations, **services}))  # type: ignore[arg-type]
    return app, events, operations


@asynccontextmanager
async def serve(directory: Path, **services: Any) -> AsyncIterator[Api]:
    """Serve until the block ends."""
    app, events, operations = api_app(**services)
    path = directory / "api.socket"
    config = server_config(app)
    config.uds = str(path)
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.01)
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20) as client:
            yield Api(app, path, events, operations, client)
    finally:
        await operations.drain(0)
        events.close()
        server.should_exit = True
        await serving
