"""`/1.0/profiles`: what instances share."""

from urllib.parse import quote

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, project, recursion, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import profiles as schema
from lxdpy.db.profiles import ProfileRecord
from lxdpy.project import in_project
from lxdpy.services.instances import ProfileSettings

router = Router()

_PROJECT = {"project": "empty: default"}


@router.get(
    "/1.0/profiles",
    **documented(list[schema.Profile] | list[str], query={"recursion": "1: objects", **_PROJECT}),
)
async def get_profiles(request: Request) -> Response:
    """Every profile that the project uses."""
    profiles = services(request).profiles
    found = profiles.all(project(request))
    if recursion(request) == 0:
        return envelope.sync([in_project(f"/1.0/profiles/{profile.name}", profile.project) for profile in found])
    return envelope.sync([schema.render(profile, profiles.used_by(profile)) for profile in found])


@router.post("/1.0/profiles", **documented(status=201, body=schema.ProfilesPost, query=_PROJECT))
async def post_profiles(request: Request) -> Response:
    """Make a profile."""
    new = await body(request, schema.ProfilesPost)
    where = project(request)
    await services(request).profiles.create(where, new.name or "", schema.settings(new))
    return envelope.created(in_project(f"/1.0/profiles/{quote(new.name or '')}", where))


@router.get("/1.0/profiles/{name}", **documented(schema.Profile, query=_PROJECT))
async def get_profile(request: Request) -> Response:
    """One profile."""
    profiles = services(request).profiles
    profile = profiles.get(project(request), request.path_params["name"])
    return envelope.sync(schema.render(profile, profiles.used_by(profile)), etag=etag(schema.writable(profile)))


@router.put("/1.0/profiles/{name}", **documented(body=schema.ProfilePut, query=_PROJECT))
async def put_profile(request: Request) -> Response:
    """Replace a profile; limits, NICs and disks of instances that run change at once, the rest at their next start."""
    new = schema.settings(await body(request, schema.ProfilePut))

    def wanted(current: ProfileRecord) -> ProfileSettings:
        check_if_match(request, schema.writable(current))
        return new

    await services(request).profiles.update(project(request), request.path_params["name"], wanted)
    return envelope.empty()


@router.patch("/1.0/profiles/{name}", **documented(body=schema.ProfilePatch, query=_PROJECT))
async def patch_profile(request: Request) -> Response:
    """Change a part of a profile; an empty value removes a key."""
    patch = await body(request, schema.ProfilePatch)

    def wanted(current: ProfileRecord) -> ProfileSettings:
        check_if_match(request, schema.writable(current))
        return schema.patched(current, patch)

    await services(request).profiles.update(project(request), request.path_params["name"], wanted)
    return envelope.empty()


@router.post("/1.0/profiles/{name}", **documented(status=201, body=schema.ProfilePost, query=_PROJECT))
async def post_profile(request: Request) -> Response:
    """Rename a profile; instances that have it have it by its new name."""
    where, name = project(request), (await body(request, schema.ProfilePost)).name or ""
    await services(request).profiles.rename(where, request.path_params["name"], name)
    return envelope.created(in_project(f"/1.0/profiles/{quote(name)}", where))


@router.delete("/1.0/profiles/{name}", **documented(query=_PROJECT))
async def delete_profile(request: Request) -> Response:
    """Delete a profile that no instance has."""
    await services(request).profiles.delete(project(request), request.path_params["name"])
    return envelope.empty()
