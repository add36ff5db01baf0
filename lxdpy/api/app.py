"""The API as an ASGI application.

A resource is one file in `routes/`, listed in ROUTERS below, in the order in which paths are tried:

    router = Router()                                                      # api.routing

    @router.get("/1.0/things/{name}", **documented(Thing))                 # schema from api/schemas
    async def get_thing(request: Request) -> Response:
        thing = services(request).things.get(request.path_params["name"])  # api.deps; errors of ours just rise
        return envelope.sync(render(thing), etag=etag(writable(thing)))    # api.envelope, api.etag

    @router.post("/1.0/things", **documented(status=202, body=ThingsPost))
    async def post_things(request: Request) -> Response:
        new = new_thing(await body(request, ThingsPost))
        operation = services(request).operations.start("Creating thing", partial(things.create, new), resources={...})
        return envelope.accepted(operation)

`/1.0/containers...` arrives as `/1.0/instances...` (api.edge); lists ask `instances_prefix(request.scope)` for the
name that was used. Status 201: `documented(status=201)` and `envelope.created(path)`.
"""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from lxdpy.api import errors
from lxdpy.api.deps import Services
from lxdpy.api.edge import Edge
from lxdpy.api.routes import (
    backups,
    events,
    files,
    images,
    instance_metadata,
    instances,
    networks,
    operations,
    profiles,
    projects,
    resources,
    root,
    snapshots,
    standalone,
    storage,
    unoffered,
    volume_backups,
    volumes,
)
from lxdpy.api.server_info import ServerView
from lxdpy.api.views import InstanceViews

ROUTERS = (
    root.router,
    operations.router,
    events.router,
    instances.router,
    files.router,
    instance_metadata.router,
    snapshots.router,
    images.router,
    profiles.router,
    projects.router,
    networks.router,
    resources.router,
    standalone.router,
    unoffered.router,
    storage.router,
    backups.router,
    volumes.router,
    volume_backups.router,
)


def routes() -> list[BaseRoute]:
    """Every route, in order."""
    return [route for router in ROUTERS for route in router.routes]


def create_app(services: Services) -> FastAPI:
    """The application on `services`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    # Taken over as they are: include_router would wrap each and make every request pay for it.
    app.router.routes.extend(routes())
    app.add_exception_handler(HTTPException, errors.no_route)
    app.add_middleware(Edge)
    app.state.services = services
    app.state.views = InstanceViews(services.instances)
    app.state.server = ServerView(services)
    return app
