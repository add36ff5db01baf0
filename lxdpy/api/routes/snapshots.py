"""`/1.0/instances/NAME/snapshots`: list, take, read, rename, delete. A PUT of the instance restores one."""

from urllib.parse import quote

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, instance_name, recursion, services
from lxdpy.api.edge import instances_prefix
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import snapshots as schema
from lxdpy.errors import ConflictError
from lxdpy.progress import Progress
from lxdpy.project import instance_url, plain_name, project_of

router = Router()

_PATH = "/1.0/instances/{name}/snapshots"


@router.get(_PATH, **documented(list[schema.InstanceSnapshot] | list[str], query={"recursion": "0: URLs; 1: objects"}))
async def get_snapshots(request: Request) -> Response:
    """The snapshots of an instance, oldest first."""
    name = instance_name(request)
    found = services(request).instances.snapshots.all(name)
    if recursion(request):
        return envelope.sync([schema.render(snapshot) for snapshot in found])
    prefix = instances_prefix(request.scope)
    paths = [("snapshots", quote(snapshot.record.name, safe="")) for snapshot in found]
    return envelope.sync([instance_url(name, *path, prefix=prefix) for path in paths])


@router.post(_PATH, **documented(status=202, body=schema.InstanceSnapshotsPost))
async def post_snapshots(request: Request) -> Response:
    """Take a snapshot; a running instance is frozen while what it wrote is copied."""
    found = services(request)
    name = instance_name(request)
    new = await body(request, schema.InstanceSnapshotsPost)
    schema.check_stateless(new)
    found.instances.snapshots.check_new(name, new.name or "")
    expires_at = None if new.expires_at is None else schema.seconds(new.expires_at)

    async def run(progress: Progress) -> None:
        await found.instances.snapshots.create(name, new.name or "", expires_at)

    return envelope.accepted(
        found.operations.start(
            "Snapshotting instance", run, resources=_resources(name), cancellable=True, project=project_of(name)
        )
    )


@router.get(f"{_PATH}/{{snapshot}}", **documented(schema.InstanceSnapshot))
async def get_snapshot(request: Request) -> Response:
    """One snapshot."""
    snapshot = services(request).instances.snapshots.get(instance_name(request), request.path_params["snapshot"])
    return envelope.sync(schema.render(snapshot), etag=etag(schema.writable(snapshot)))


@router.put(f"{_PATH}/{{snapshot}}", **documented(status=202, body=schema.InstanceSnapshotPut))
async def put_snapshot(request: Request) -> Response:
    """Say when a snapshot expires."""
    return await _set_expiry(request)


@router.patch(f"{_PATH}/{{snapshot}}", **documented(status=202, body=schema.InstanceSnapshotPut))
async def patch_snapshot(request: Request) -> Response:
    """Say when a snapshot expires."""
    return await _set_expiry(request)


async def _set_expiry(request: Request) -> Response:
    found = services(request)
    name, snapshot = instance_name(request), request.path_params["snapshot"]
    check_if_match(request, schema.writable(found.instances.snapshots.get(name, snapshot)))
    new = await body(request, schema.InstanceSnapshotPut)

    async def run(progress: Progress) -> None:
        if new.expires_at is not None:
            await found.instances.snapshots.set_expiry(name, snapshot, schema.seconds(new.expires_at))

    return envelope.accepted(
        found.operations.start("Updating snapshot", run, resources=_resources(name), project=project_of(name))
    )


@router.post(f"{_PATH}/{{snapshot}}", **documented(status=202, body=schema.InstanceSnapshotPost))
async def post_snapshot(request: Request) -> Response:
    """Rename a snapshot."""
    found = services(request)
    name, snapshot = instance_name(request), request.path_params["snapshot"]
    new_name = schema.new_name(await body(request, schema.InstanceSnapshotPost))
    found.instances.snapshots.get(name, snapshot)
    try:
        found.instances.snapshots.check_new(name, new_name)
    except ConflictError:
        raise ConflictError(f"Name '{plain_name(name)}/{new_name}' already in use") from None

    async def run(progress: Progress) -> None:
        await found.instances.snapshots.rename(name, snapshot, new_name)

    return envelope.accepted(
        found.operations.start("Renaming snapshot", run, resources=_resources(name), project=project_of(name))
    )


@router.delete(f"{_PATH}/{{snapshot}}", **documented(status=202))
async def delete_snapshot(request: Request) -> Response:
    """Delete a snapshot."""
    found = services(request)
    name, snapshot = instance_name(request), request.path_params["snapshot"]
    found.instances.snapshots.get(name, snapshot)

    async def run(progress: Progress) -> None:
        await found.instances.snapshots.delete(name, snapshot)

    return envelope.accepted(
        found.operations.start("Deleting snapshot", run, resources=_resources(name), project=project_of(name))
    )


def _resources(name: str) -> dict[str, list[str]]:
    return {kind: [f"/1.0/{kind}/{plain_name(name)}"] for kind in ("instances", "containers")}
