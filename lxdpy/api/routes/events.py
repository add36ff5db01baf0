"""`/1.0/events`: what happens, as it happens."""

import asyncio

from fastapi import Request, Response, WebSocket

from lxdpy.api import errors
from lxdpy.api.connection import WebsocketConnection
from lxdpy.api.deps import project, services
from lxdpy.api.routing import Router, documented
from lxdpy.errors import InvalidRequestError
from lxdpy.operations import EventType
from lxdpy.operations.events import Subscription

router = Router()


@router.get(
    "/1.0/events",
    **documented(
        status=101,
        description="Websocket",
        query={
            "type": "operation, lifecycle, logging: any of them, comma-separated; absent: all",
            "project": "empty: default",
            "all-projects": "true or false",
        },
    ),
)
async def get_events(request: Request) -> Response:
    """Events as they happen, one text message each."""
    raise InvalidRequestError("Cannot send events: the request is no websocket handshake")


@router.websocket("/1.0/events")
async def connect_events(websocket: WebSocket) -> None:
    """Send events until the client is gone, or too slow."""
    everywhere = websocket.query_params.get("all-projects", "").lower() in ("true", "1")
    try:
        types = _types(websocket.query_params.get("type"))
        if everywhere and websocket.query_params.get("project"):
            raise InvalidRequestError('Cannot send events: "all-projects" and "project" exclude each other')
    except InvalidRequestError as exc:
        await websocket.send_denial_response(errors.answer(exc))
        return
    # Listening begins before the handshake's end: what a client does next can't be missed.
    with services(websocket).events.subscribe(types, project=None if everywhere else project(websocket)) as events:
        await websocket.accept()
        connection = WebsocketConnection(websocket)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(_until_gone(connection, events))
            try:
                while (text := await events.next()) is not None:
                    await connection.send_text(text)
            except ConnectionError:
                pass
            reader.cancel()
        await connection.close()


async def _until_gone(connection: WebsocketConnection, events: Subscription) -> None:
    """Clients have nothing to say: the only news is that they left."""
    while await connection.receive() is not None:
        pass
    events.end()


def _types(text: str | None) -> list[EventType]:
    """The types in `type=`. Raises InvalidRequestError."""
    if not text:
        return list(EventType)
    known = {kind.value: kind for kind in EventType}
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequestError(f'Cannot send events: "{unknown[0]}" isn\'t a supported event type')
    return [known[name] for name in names]
