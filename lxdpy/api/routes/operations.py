"""`/1.0/operations`: background work."""

from fastapi import Request, Response, WebSocket

from lxdpy.api import envelope, errors
from lxdpy.api.connection import WebsocketConnection
from lxdpy.api.deps import integer, projects, recursion, services, while_connected
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas.operations import Operation
from lxdpy.errors import InvalidRequestError, LxdpyError, NotFoundError

router = Router()


@router.get(
    "/1.0/operations",
    **documented(
        dict[str, list[str | Operation]],
        query={"recursion": "0: URLs; 1: objects", "project": "empty: default", "all-projects": "true or false"},
    ),
)
async def get_operations(request: Request) -> Response:
    """Operations by status in lower case."""
    full = recursion(request) > 0
    groups = services(request).operations.by_status(project=projects(request))
    return envelope.sync(
        {name: [entry.render() if full else entry.path for entry in entries] for name, entries in groups.items()}
    )


@router.get("/1.0/operations/{id}", **documented(Operation))
async def get_operation(request: Request) -> Response:
    """One operation; gone five seconds after its end."""
    return envelope.sync(services(request).operations.get(request.path_params["id"]).render())


@router.delete("/1.0/operations/{id}", **documented())
async def delete_operation(request: Request) -> Response:
    """Cancel an operation; answers when what it had begun is undone."""
    await services(request).operations.cancel(request.path_params["id"])
    return envelope.empty()


@router.get(
    "/1.0/operations/{id}/wait",
    **documented(Operation, query={"timeout": "seconds; -1 or absent: however long"}),
)
async def wait_operation(request: Request) -> Response:
    """Wait for the end, or until the time is over: the operation's status tells which."""
    operation = services(request).operations.get(request.path_params["id"])
    timeout = integer(request, "timeout", -1)
    await while_connected(request, operation.wait(None if timeout < 0 else timeout))
    return envelope.sync(operation.render())


@router.get(
    "/1.0/operations/{id}/websocket",
    **documented(status=101, description="Websocket", query={"secret": "one of metadata.fds"}),
)
async def get_operation_websocket(request: Request) -> Response:
    """Connect to a websocket operation."""
    raise InvalidRequestError("Cannot connect to operation: the request is no websocket handshake")


@router.websocket("/1.0/operations/{id}/websocket")
async def connect_operation_websocket(websocket: WebSocket) -> None:
    """Open the websocket that the secret stands for, and hold it until the job closes it."""
    try:
        operation = services(websocket).operations.get(websocket.path_params["id"])
        if operation.sockets is None:
            raise NotFoundError("Cannot connect to operation: it has no websockets")
        name = operation.sockets.claim(websocket.query_params.get("secret", ""))
    except LxdpyError as exc:
        await websocket.send_denial_response(errors.answer(exc))
        return
    await websocket.accept()
    connection = WebsocketConnection(websocket)
    await operation.sockets.attach(name, connection)
    await connection.ended()
