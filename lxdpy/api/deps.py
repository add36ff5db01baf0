"""What routes stand on: the services, and the parts of a request."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request, WebSocket
from pydantic import BaseModel, ValidationError

from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError
from lxdpy.project import DEFAULT, qualify
from lxdpy.services.projects import Feature

if TYPE_CHECKING:
    from lxdpy.config import Config
    from lxdpy.drivers.hardware import Hardware
    from lxdpy.operations import Events, Operations
    from lxdpy.services.images import ImageService, ImageUpkeep
    from lxdpy.services.instances import InstanceService, Profiles
    from lxdpy.services.networks import NetworkService
    from lxdpy.services.projects import ProjectService
    from lxdpy.services.server_config import ServerConfig
    from lxdpy.services.storage import StorageService

MAX_BODY_BYTES = 4 << 20
"""JSON bodies that are larger are refused."""

_MAX_INTEGER = 2**31

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the routes call, built once by the daemon."""

    config: "Config"
    operations: "Operations"
    events: "Events"
    images: "ImageService"
    upkeep: "ImageUpkeep"
    instances: "InstanceService"
    networks: "NetworkService"
    projects: "ProjectService"
    profiles: "Profiles"
    hardware: "Hardware"
    storage: "StorageService"
    server_config: "ServerConfig"
    lxc_version: str


def services(connection: Request | WebSocket) -> Services:
    """The daemon's services."""
    found: Services = connection.app.state.services
    return found


async def body(request: Request, model: type[Body]) -> Body:
    """The request's JSON body as `model`. Raises InvalidRequestError."""
    return await read_body(request.stream(), model)


async def read_body(stream: AsyncIterator[bytes], model: type[Body]) -> Body:
    """As `body`, of a request whose reading has begun."""
    chunks = bytearray()
    async for chunk in stream:
        chunks += chunk
        if len(chunks) > MAX_BODY_BYTES:
            raise InvalidRequestError(f"Invalid request body: larger than {MAX_BODY_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(chunks))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequestError(f"Invalid request body: {where + ': ' if where else ''}{first['msg']}") from exc


async def while_connected(request: Request, waiting: Coroutine[Any, Any, Result]) -> Result:
    """Wait for something that may take for ever, and no longer than the client does.

    The request's body must not be wanted any more. Raises ConflictError, for nobody, when the client is gone.
    """
    tasks = (asyncio.create_task(waiting), asyncio.create_task(_gone(request)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ConflictError("The client is gone")
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def recursion(request: Request) -> int:
    """`recursion=`: 0 for URLs, 1 for objects, 2 for objects with their state. Raises InvalidRequestError."""
    return integer(request, "recursion", 0)


def integer(request: Request, name: str, default: int) -> int:
    """A query parameter that is a number; empty or absent is `default`. Raises InvalidRequestError."""
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        number = int(text)
    except ValueError as exc:
        raise InvalidRequestError(f'Invalid value "{text:.100}" of query parameter "{name}": not a number') from exc
    if abs(number) > _MAX_INTEGER:
        raise InvalidRequestError(f'Invalid value "{text:.100}" of query parameter "{name}": too large')
    return number


def flag(request: Request, name: str) -> bool:
    """A query parameter that is a switch: `true` or `1`."""
    return request.query_params.get(name, "").lower() in ("true", "1")


def project(connection: Request | WebSocket) -> str:
    """`project=`; empty or absent is "default"."""
    return connection.query_params.get("project") or DEFAULT


def projects(request: Request) -> str | None:
    """The project that a list is asked of; None for all. Raises InvalidRequestError when both are asked for."""
    if not flag(request, "all-projects"):
        return project(request)
    if request.query_params.get("project"):
        raise InvalidRequestError("Cannot specify a project when requesting all projects")
    return None


def images_project(request: Request) -> str:
    """The project whose images the request's project uses. Raises NotFoundError."""
    return services(request).projects.owner(project(request), Feature.IMAGES)


def instance_name(connection: Request | WebSocket) -> str:
    """The instance that the path and `project=` name, by its name below the API (`lxdpy.project`).

    Raises NotFoundError for what can't be a name.
    """
    plain: str = connection.path_params["name"]
    try:
        return qualify(project(connection), plain)
    except InvalidRequestError:
        raise NotFoundError(f"Instance {plain!r:.100} not found") from None
