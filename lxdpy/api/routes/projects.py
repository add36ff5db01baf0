"""`/1.0/projects`: what belongs together."""

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, recursion, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import projects as schema
from lxdpy.db.projects import ProjectRecord
from lxdpy.progress import Progress
from lxdpy.services.projects import ProjectSettings

router = Router()


@router.get("/1.0/projects", **documented(list[schema.Project] | list[str], query={"recursion": "1: objects"}))
async def get_projects(request: Request) -> Response:
    """Every project."""
    projects = services(request).projects
    if recursion(request) == 0:
        return envelope.sync([f"/1.0/projects/{project.name}" for project in projects.all()])
    return envelope.sync([schema.render(project, projects.used_by(project.name)) for project in projects.all()])


@router.post("/1.0/projects", **documented(status=201, body=schema.ProjectsPost))
async def post_projects(request: Request) -> Response:
    """Make a project; unless it says otherwise it has images, profiles and volumes of its own."""
    new = await body(request, schema.ProjectsPost)
    await services(request).projects.create(new.name or "", schema.settings(new))
    return envelope.created(f"/1.0/projects/{new.name}")


@router.get("/1.0/projects/{name}", **documented(schema.Project))
async def get_project(request: Request) -> Response:
    """One project."""
    projects = services(request).projects
    project = projects.get(request.path_params["name"])
    return envelope.sync(schema.render(project, projects.used_by(project.name)), etag=etag(schema.writable(project)))


@router.get("/1.0/projects/{name}/state", **documented(schema.ProjectState))
async def get_project_state(request: Request) -> Response:
    """How much is in a project, and may be."""
    found = services(request)
    name = found.projects.get(request.path_params["name"]).name
    instances = len(found.instances.names(name))
    kinds = {
        "containers": (found.projects.limit(name, "limits.containers"), instances),
        "instances": (found.projects.limit(name, "limits.instances"), instances),
    }
    return envelope.sync(schema.render_state(kinds))


@router.put("/1.0/projects/{name}", **documented(body=schema.ProjectPut))
async def put_project(request: Request) -> Response:
    """Replace a project's description and configuration; features only while nothing is in it."""
    new = schema.settings(await body(request, schema.ProjectPut))

    def wanted(current: ProjectRecord) -> ProjectSettings:
        check_if_match(request, schema.writable(current))
        return new

    await services(request).projects.update(request.path_params["name"], wanted)
    return envelope.empty()


@router.patch("/1.0/projects/{name}", **documented(body=schema.ProjectPatch))
async def patch_project(request: Request) -> Response:
    """Change a part of a project; an empty value removes a key."""
    patch = await body(request, schema.ProjectPatch)

    def wanted(current: ProjectRecord) -> ProjectSettings:
        check_if_match(request, schema.writable(current))
        return schema.patched(current, patch)

    await services(request).projects.update(request.path_params["name"], wanted)
    return envelope.empty()


@router.post("/1.0/projects/{name}", **documented(status=202, body=schema.ProjectPost))
async def post_project(request: Request) -> Response:
    """Rename a project with nothing in it."""
    found = services(request)
    name, new_name = request.path_params["name"], (await body(request, schema.ProjectPost)).name or ""
    # It is done when the answer comes: pylxd reads the project by its new name at once, and waits for nothing.
    await found.projects.rename(name, new_name)

    async def run(progress: Progress) -> None:
        found.projects.get(new_name)

    return envelope.accepted(found.operations.start("Renaming project", run, resources={}))


@router.delete("/1.0/projects/{name}", **documented())
async def delete_project(request: Request) -> Response:
    """Delete a project with nothing in it."""
    await services(request).projects.delete(request.path_params["name"])
    return envelope.empty()
