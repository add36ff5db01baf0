"""`/` and `/1.0`: what this server is, and how it is configured."""

from collections.abc import Mapping

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, project, services
from lxdpy.api.etag import check_if_match
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas.server import Server, ServerPut
from lxdpy.api.server_info import server_view

router = Router()

_VERSIONS = envelope.sync_bytes(["/1.0"])


@router.get("/", **documented(list[str]))
async def get_versions(request: Request) -> Response:
    """The API versions that this server speaks."""
    return Response(_VERSIONS, media_type=envelope.JSON)


@router.get("/1.0", **documented(Server))
async def get_server(request: Request) -> Response:
    """What this server is and offers."""
    view = server_view(request)
    return Response(view.body_for(project(request)), media_type=envelope.JSON, headers={"ETag": view.etag})


@router.put("/1.0", **documented(body=ServerPut))
async def put_server(request: Request) -> Response:
    """Replace the server's configuration."""
    wanted = await body(request, ServerPut)

    def replaced(current: Mapping[str, str]) -> Mapping[str, object]:
        check_if_match(request, current)
        return wanted.config or {}

    await services(request).server_config.update(replaced)
    return envelope.empty()


@router.patch("/1.0", **documented(body=ServerPut))
async def patch_server(request: Request) -> Response:
    """Change a part of the server's configuration; an empty value removes a key."""
    wanted = await body(request, ServerPut)

    def patched(current: Mapping[str, str]) -> Mapping[str, object]:
        check_if_match(request, current)
        return {**current, **(wanted.config or {})}

    await services(request).server_config.update(patched)
    return envelope.empty()
