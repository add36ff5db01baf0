"""How routes are made: `router = Router()`, then `@router.get(PATH, ...)` over `async def name(request) -> Response`.

FastAPI's own handling of parameters costs 150 us per request: ours calls the endpoint with the request, and nothing
else. What FastAPI can't see then is declared for the document alone:

    @router.get("/1.0/things/{name}", **documented(Thing, query={"recursion": "0, 1 or 2"}))
    @router.post("/1.0/things", **documented(status=202, body=ThingsPost))

Path parameters document themselves. Errors need nothing: ours become the answer of their status in `api.errors`.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from lxdpy.api import errors
from lxdpy.api.schemas.envelope import Accepted, Empty, ErrorAnswer, Sync

ERRORS: Mapping[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The request can't be right",
        403: "Not allowed",
        404: "Not found",
        409: "Exists already, or its state forbids the request",
        412: "If-Match names another version",
        500: "The host or the daemon failed",
        501: "Not offered",
        502: "A registry failed",
        503: "The daemon is shutting down",
        507: "No space",
    }.items()
}


class Route(APIRoute):
    """A route that calls `endpoint(request)`; errors become answers here."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            try:
                response: Response = await endpoint(request)
            except Exception as exc:  # noqa: BLE001 (whatever a route raises ends this request alone)
                return errors.answer(exc)
            return response

        return handle


class Router(APIRouter):
    """A router of such routes."""

    def __init__(self) -> None:
        super().__init__(route_class=Route, generate_unique_id_function=lambda route: route.name)


def documented(
    returns: Any = None,
    *,
    status: int = 200,
    description: str = "Success",
    body: type[BaseModel] | None = None,
    query: Mapping[str, str] | None = None,
    media_type: str | None = None,
    or_accepted: bool = False,
) -> dict[str, Any]:
    """Keywords of a route for the document: metadata's type, body, query parameters.

    202 is an operation, 101 a websocket; `media_type` says that the answer is no envelope but bytes. `or_accepted`: it
    may be an operation instead, as the body says.
    """
    answer: dict[str, Any]
    if media_type is not None:
        answer = {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
    elif status == 101:
        answer = {}
    elif status == 202:
        answer = {"model": Accepted}
    else:
        answer = {"model": Empty if returns is None else Sync[returns]}
    extra: dict[str, Any] = {}
    if query:
        extra["parameters"] = [
            {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in query.items()
        ]
    if body is not None:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {
        "response_model": None,
        "status_code": status,
        "responses": {
            **ERRORS,
            **({202: {"model": Accepted, "description": "An operation does it"}} if or_accepted else {}),
            status: {"description": description, **answer},
        },
        "openapi_extra": extra or None,
    }
