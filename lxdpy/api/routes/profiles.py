"""`/1.0/profiles`: what instances share."""

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import in_project, recursion, services
from lxdpy.api.etag import etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import networks as schema

router = Router()


@router.get("/1.0/profiles", **documented(list[schema.Profile] | list[str], query={"recursion": "1: objects"}))
async def get_profiles(request: Request) -> Response:
    """Every profile."""
    found = services(request)
    profiles = found.profiles.all() if in_project(request) else []
    if recursion(request) == 0:
        return envelope.sync([f"/1.0/profiles/{profile.name}" for profile in profiles])
    return envelope.sync(
        [schema.render_profile(profile, found.instances.names_with(profile.name)) for profile in profiles]
    )


@router.get("/1.0/profiles/{name}", **documented(schema.Profile))
async def get_profile(request: Request) -> Response:
    """One profile."""
    found = services(request)
    name = request.path_params["name"]
    profile = schema.render_profile(found.profiles.get(name), found.instances.names_with(name))
    return envelope.sync(profile, etag=etag([profile["config"], profile["description"], profile["devices"]]))
