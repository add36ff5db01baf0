"""`/1.0/instances`: list, make, read, change, delete; what they do, print and how they ended."""

import dataclasses

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from lxdpy.api import envelope, filtering, uploads
from lxdpy.api.deps import (
    Services,
    body,
    flag,
    images_project,
    instance_name,
    integer,
    project,
    projects,
    recursion,
    services,
    while_connected,
)
from lxdpy.api.edge import instances_prefix
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import instances as schema
from lxdpy.api.views import views
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.progress import Progress
from lxdpy.project import instance_url, plain_name, project_of, qualify
from lxdpy.services.instances import Action, Instance, InstanceSettings, NewImport
from lxdpy.services.storage import DEFAULT_POOL

router = Router()

_TEXT = "text/plain; charset=utf-8"
_LISTS = {
    "recursion": "0: URLs; 1: objects; 2: objects with their state",
    "filter": "as LXD's, e.g. `status eq running and config.user.role eq web`",
    "instance-type": "container, or virtual-machine, of which there are none; absent: all",
    "project": "empty: default",
    "all-projects": "true: of every project",
}
_TYPES = {"": True, "container": True, "virtual-machine": False}
"""Values of `instance-type`, and whether instances are of that type."""


@router.get("/1.0/instances", **documented(list[schema.Instance] | list[str], query=_LISTS))
async def get_instances(request: Request) -> Response:
    """Every instance."""
    found = services(request)
    depth = recursion(request)
    names = found.instances.names(projects(request))
    if not _are_of_type(request.query_params.get("instance-type", "")):
        names = []
    clauses = filtering.parse(request.query_params.get("filter"))
    if clauses:
        names = [name for name in names if filtering.matches(clauses, schema.render(found.instances.get(name)))]
    if depth == 0:
        prefix = instances_prefix(request.scope)
        return envelope.sync([instance_url(name, prefix=prefix) for name in names])
    rendered = views(request)
    states = found.instances.states() if depth >= 2 and names else {}
    return envelope.sync_list([rendered.instance(name, states.get(name)) for name in names])


def _are_of_type(asked: str) -> bool:
    try:
        return _TYPES[asked]
    except KeyError:
        raise InvalidRequestError(f"Invalid instance type '{asked:.100}'") from None


@router.post("/1.0/instances", **documented(status=202, body=schema.InstancesPost))
async def post_instances(request: Request) -> Response:
    """Make an instance of an image, which is pulled first when it is not here. An unknown image is a 404 at once."""
    if request.query_params.get("target"):
        raise InvalidRequestError("Target only allowed when clustered")
    if request.headers.get("content-type", "").startswith("application/octet-stream"):
        return await _import(request)
    found = services(request)
    wanted = await body(request, schema.InstancesPost)
    if wanted.source.type == "copy":
        return _copy(found, wanted, project(request))
    new = found.instances.reserve(schema.new_instance(wanted, project(request)))
    try:
        if wanted.source.type == "none":
            image = found.images.nothing()
        else:
            image = await found.images.find(dataclasses.replace(new.source, project=images_project(request)))

        async def run(progress: Progress) -> None:
            await found.instances.create(new, image, progress)

        operation = found.operations.start(
            "Creating instance", run, resources=_resources(new.name, containers=True), cancellable=True
        )
    except BaseException:
        found.instances.unreserve(new.name)
        raise
    return envelope.accepted(operation)


async def _import(request: Request) -> Response:
    """Receive a backup, and have an instance made of it in the background."""
    found, where, name = services(request), project(request), request.headers.get("x-lxd-name", "")
    pool = request.headers.get("x-lxd-pool") or DEFAULT_POOL
    if found.storage.pool(pool).record.name != DEFAULT_POOL:
        raise InvalidRequestError(f'Cannot import a backup to pool "{pool}": all instances lie in "{DEFAULT_POOL}"')
    if name:
        found.instances.check_free(qualify(where, name))
    incoming = found.images.receive()
    try:
        files, _ = await uploads.receive(request, request.stream(), incoming)

        async def run(progress: Progress) -> None:
            try:
                await found.instances.import_backup(NewImport(where, name, files))
            finally:
                incoming.discard()

        resources = {kind: [f"/1.0/{kind}/{name}"] for kind in _KINDS} if name else {}
        operation = found.operations.start(
            "Restoring backup", run, resources=resources, cancellable=True, project=where
        )
    except BaseException:
        incoming.discard()
        raise
    return envelope.accepted(operation)


def _copy(found: Services, wanted: schema.InstancesPost, where: str) -> Response:
    new = found.instances.reserve_copy(schema.new_copy(wanted, where))

    async def run(progress: Progress) -> None:
        await found.instances.copy(new)

    try:
        source = plain_name(new.source) + (f"/{new.snapshot}" if new.snapshot else "")
        names = [plain_name(new.name), source]
        resources = {kind: [f"/1.0/{kind}/{name}" for name in names] for kind in _KINDS}
        operation = found.operations.start(
            "Creating instance", run, resources=resources, cancellable=True, project=where
        )
    except BaseException:
        found.instances.unreserve(new.name)
        raise
    return envelope.accepted(operation)


@router.get("/1.0/instances/{name}", **documented(schema.Instance, query={"recursion": "1: with its state"}))
async def get_instance(request: Request) -> Response:
    """One instance."""
    found = services(request)
    name = instance_name(request)
    version = etag(schema.writable(found.instances.get(name)))
    state = found.instances.state(name) if recursion(request) else None
    return envelope.sync_rendered(views(request).instance(name, state), etag=version)


@router.put("/1.0/instances/{name}", **documented(status=202, body=schema.InstancePut))
async def put_instance(request: Request) -> Response:
    """Replace what may be written; it applies at the next start."""
    found = services(request)
    name = instance_name(request)
    asked = await body(request, schema.InstancePut)
    new = schema.settings(asked)

    def wanted(current: Instance) -> InstanceSettings:
        check_if_match(request, schema.writable(current))
        return new

    async def run(progress: Progress) -> None:
        await found.instances.update(name, wanted)

    # Refused at once; and again when the operation's turn comes, should another change have come between.
    current = wanted(found.instances.get(name))
    if asked.restore:
        if asked.stateful:
            raise UnsupportedError(f'Cannot restore "{asked.restore}" statefully: containers are not checkpointed')
        return _restore(found, name, asked.restore.removeprefix(f"{plain_name(name)}/"))
    found.instances.check_update(name, current)
    return envelope.accepted(
        found.operations.start("Updating instance", run, resources=_resources(name, containers=True))
    )


def _restore(found: Services, name: str, snapshot: str) -> Response:
    found.instances.snapshots.get(name, snapshot)

    async def run(progress: Progress) -> None:
        await found.instances.snapshots.restore(name, snapshot)

    resources = _resources(name, containers=True)
    return envelope.accepted(
        found.operations.start("Restoring snapshot", run, resources=resources, project=project_of(name))
    )


@router.post("/1.0/instances/{name}", **documented(status=202, body=schema.InstancePost))
async def post_instance(request: Request) -> Response:
    """Rename a stopped instance, or move it to another project."""
    found = services(request)
    name = instance_name(request)
    wanted = await body(request, schema.InstancePost)
    new_name = schema.new_name(wanted, project(request))
    if not (wanted.migration and new_name == name):
        found.instances.check_rename(name, new_name)
    instance_only = bool(wanted.migration and (wanted.instance_only or wanted.container_only))

    async def run(progress: Progress) -> None:
        # To the pool that it is in already.
        if new_name != name:
            await found.instances.rename(name, new_name, instance_only=instance_only)

    what = "Migrating instance" if wanted.migration else "Renaming instance"
    resources = _resources(name, containers=True)
    return envelope.accepted(found.operations.start(what, run, resources=resources, project=project_of(name)))


@router.patch("/1.0/instances/{name}", **documented(body=schema.InstancePatch))
async def patch_instance(request: Request) -> Response:
    """Change a part of what may be written; an empty value removes a key."""
    found = services(request)
    name = instance_name(request)
    found.instances.get(name)
    patch = await body(request, schema.InstancePatch)

    def wanted(current: Instance) -> InstanceSettings:
        check_if_match(request, schema.writable(current))
        return schema.patched(current, patch)

    await found.instances.update(name, wanted)
    return envelope.empty()


@router.delete("/1.0/instances/{name}", **documented(status=202))
async def delete_instance(request: Request) -> Response:
    """Delete a stopped instance and everything it wrote."""
    found = services(request)
    name = instance_name(request)
    found.instances.check_delete(name)

    async def run(progress: Progress) -> None:
        await found.instances.delete(name)

    return envelope.accepted(
        found.operations.start("Deleting instance", run, resources=_resources(name, containers=True))
    )


@router.get("/1.0/instances/{name}/state", **documented(schema.InstanceState))
async def get_state(request: Request) -> Response:
    """What an instance does and uses right now."""
    return envelope.sync(schema.render_state(services(request).instances.state(instance_name(request))))


_DESCRIPTIONS = {
    Action.START: "Starting instance",
    Action.STOP: "Stopping instance",
    Action.RESTART: "Restarting instance",
    Action.FREEZE: "Freezing instance",
    Action.UNFREEZE: "Unfreezing instance",
}


@router.put("/1.0/instances/{name}/state", **documented(status=202, body=schema.InstanceStatePut))
async def put_state(request: Request) -> Response:
    """Start, stop, restart, freeze or unfreeze an instance."""
    found = services(request)
    name = instance_name(request)
    wanted = await body(request, schema.InstanceStatePut)
    try:
        action = Action(wanted.action)
    except ValueError:
        raise InvalidRequestError(f"Unknown action: '{wanted.action}'") from None
    if wanted.stateful:
        raise InvalidRequestError(f"Cannot {action} an instance statefully: containers are not checkpointed")
    how = schema.stop(wanted)
    found.instances.get(name)

    async def run(progress: Progress) -> None:
        await found.instances.act(name, action, how)

    return envelope.accepted(found.operations.start(_DESCRIPTIONS[action], run, resources=_resources(name)))


@router.get(
    "/1.0/instances/{name}/wait",
    **documented(schema.InstanceExit, query={"timeout": "seconds; absent or -1: as long as it takes"}),
)
async def wait_instance(request: Request) -> Response:
    """Wait until an instance is stopped, or the time is over: `status` says which (extension instance_exit_status)."""
    timeout = integer(request, "timeout", -1)
    waiting = services(request).instances.wait(instance_name(request), None if timeout < 0 else timeout)
    state = await while_connected(request, waiting)
    return envelope.sync(schema.render_exit(state))


@router.post("/1.0/instances/{name}/exec", **documented(status=202, body=schema.InstanceExecPost))
async def post_exec(request: Request) -> Response:
    """Run a command in a running instance."""
    found = services(request)
    name = instance_name(request)
    session = found.instances.exec(name, schema.exec_request(await body(request, schema.InstanceExecPost)))
    operation = found.operations.start(
        "Executing command",
        session.run,
        resources=_resources(name, containers=True),
        metadata=session.metadata,
        sockets=session.sockets,
    )
    return envelope.accepted(operation)


@router.get(
    "/1.0/instances/{name}/console",
    **documented(
        media_type=_TEXT,
        description="What the instance's process has printed",
        query={"follow": "true: until the instance stops (extension instance_console_follow)", "tail": "last N lines"},
    ),
)
async def get_console(request: Request) -> Response:
    """The console log: stdout and stderr of the instance's process."""
    console = services(request).instances.logs.console(instance_name(request))
    tail = integer(request, "tail", -1)
    text = console.read(None if tail < 0 else tail, follow=flag(request, "follow"))
    return StreamingResponse(text, media_type=_TEXT)


@router.post("/1.0/instances/{name}/console", **documented(status=202, body=schema.InstanceConsolePost))
async def post_console(request: Request) -> Response:
    """Attach to the terminal of the instance's process, by websockets `0` and `control`."""
    found = services(request)
    name = instance_name(request)
    wanted = await body(request, schema.InstanceConsolePost)
    schema.check_console_type(wanted)
    session = found.instances.attach(name, wanted.width or 0, wanted.height or 0, force=bool(wanted.force))
    operation = found.operations.start(
        "Showing console",
        session.run,
        resources=_resources(name, containers=True),
        metadata=session.metadata,
        sockets=session.sockets,
    )
    return envelope.accepted(operation)


@router.delete("/1.0/instances/{name}/console", **documented())
async def delete_console(request: Request) -> Response:
    """Empty the console log."""
    await services(request).instances.logs.clear_console(instance_name(request))
    return envelope.empty()


@router.get("/1.0/instances/{name}/logs", **documented(list[str]))
async def get_logs(request: Request) -> Response:
    """Log files: liblxc's, and recorded output of commands."""
    name = instance_name(request)
    files = await services(request).instances.logs.names(name)
    prefix = instances_prefix(request.scope)
    return envelope.sync([instance_url(name, "logs", file, prefix=prefix) for file in files])


@router.get(
    "/1.0/instances/{name}/logs/{file}",
    **documented(media_type="application/octet-stream", description="The file"),
)
async def get_log(request: Request) -> Response:
    """One log file."""
    data = await services(request).instances.logs.read(instance_name(request), request.path_params["file"])
    return StreamingResponse(data, media_type="application/octet-stream")


@router.delete("/1.0/instances/{name}/logs/{file}", **documented())
async def delete_log(request: Request) -> Response:
    """Delete the recorded output of a command."""
    await services(request).instances.logs.delete(instance_name(request), request.path_params["file"])
    return envelope.empty()


_KINDS = ("instances", "containers")


def _resources(name: str, *, containers: bool = False) -> dict[str, list[str]]:
    """What an operation is about; LXD names both paths when it makes or deletes an instance."""
    resources = {"instances": [f"/1.0/instances/{plain_name(name)}"]}
    if containers:
        resources["containers"] = [f"/1.0/containers/{plain_name(name)}"]
    return resources
