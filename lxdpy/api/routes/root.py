"""`/` and `/1.0`: what this server is."""

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas.server import Server

router = Router()

_VERSIONS = envelope.sync_bytes(["/1.0"])


@router.get("/", **documented(list[str]))
async def get_versions(request: Request) -> Response:
    """The API versions that this server speaks."""
    return Response(_VERSIONS, media_type=envelope.JSON)


@router.get("/1.0", **documented(Server))
async def get_server(request: Request) -> Response:
    """What this server is and offers."""
    state = request.app.state
    return Response(state.server_body, media_type=envelope.JSON, headers={"ETag": state.server_etag})
