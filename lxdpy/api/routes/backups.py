"""`/1.0/instances/NAME/backups`: instances packed into files."""

from fastapi import Request, Response

from lxdpy.api import downloads, envelope
from lxdpy.api.deps import body, instance_name, recursion, services
from lxdpy.api.edge import instances_prefix
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import backups as schema
from lxdpy.progress import Progress
from lxdpy.project import instance_url, plain_name, project_of
from lxdpy.services.images import ExportedFile

router = Router()

_BACKUPS = "/1.0/instances/{name}/backups"
_BACKUP = _BACKUPS + "/{backup}"


@router.get(_BACKUPS, **documented(list[schema.InstanceBackup] | list[str], query={"recursion": "1: objects"}))
async def get_backups(request: Request) -> Response:
    """An instance's backups, oldest first."""
    name = instance_name(request)
    backups = services(request).instances.backups.all(name)
    if recursion(request) == 0:
        prefix = instances_prefix(request.scope)
        return envelope.sync([instance_url(name, "backups", backup.name, prefix=prefix) for backup in backups])
    return envelope.sync([schema.render(backup) for backup in backups])


@router.post(_BACKUPS, **documented(status=202, body=schema.InstanceBackupsPost))
async def post_backups(request: Request) -> Response:
    """Pack an instance as it is now."""
    found, name = services(request), instance_name(request)
    wanted = await body(request, schema.InstanceBackupsPost)
    backups = found.instances.backups
    compression = found.server_config.text("backups.compression_algorithm")
    new = schema.new_backup(wanted, name, wanted.name or backups.next_name(name), compression)
    backups.check_new(name, new.name)

    async def run(progress: Progress) -> None:
        await backups.create(new, progress)

    operation = found.operations.start(
        "Backing up instance",
        run,
        # LXD's clients cut /1.0/backups/ off.
        resources={**_resources(name), "backups": [f"/1.0/backups/{new.name}"]},
        cancellable=True,
        project=project_of(name),
    )
    return envelope.accepted(operation)


@router.get(_BACKUP, **documented(schema.InstanceBackup))
async def get_backup(request: Request) -> Response:
    """One backup."""
    backup = services(request).instances.backups.get(instance_name(request), request.path_params["backup"])
    return envelope.sync(schema.render(backup))


@router.post(_BACKUP, **documented(status=202, body=schema.InstanceBackupPost))
async def post_backup(request: Request) -> Response:
    """Rename a backup."""
    found, name, old = services(request), instance_name(request), request.path_params["backup"]
    new = (await body(request, schema.InstanceBackupPost)).name
    backups = found.instances.backups
    backups.get(name, old)
    backups.check_new(name, new)

    async def run(progress: Progress) -> None:
        await backups.rename(name, old, new)

    operation = found.operations.start(
        "Renaming instance backup", run, resources=_resources(name), project=project_of(name)
    )
    return envelope.accepted(operation)


@router.delete(_BACKUP, **documented(status=202))
async def delete_backup(request: Request) -> Response:
    """Delete a backup."""
    found, name, backup = services(request), instance_name(request), request.path_params["backup"]
    backups = found.instances.backups
    backups.get(name, backup)

    async def run(progress: Progress) -> None:
        await backups.delete(name, backup)

    operation = found.operations.start(
        "Removing instance backup", run, resources=_resources(name), project=project_of(name)
    )
    return envelope.accepted(operation)


@router.get(_BACKUP + "/export", **documented(media_type="application/octet-stream", description="The backup's file"))
async def export_backup(request: Request) -> Response:
    """The file."""
    name, backup = instance_name(request), request.path_params["backup"]
    file, size = await services(request).instances.backups.open(name, backup)
    return downloads.answer([ExportedFile("", backup, size, file)])


def _resources(name: str) -> dict[str, list[str]]:
    plain = plain_name(name)
    return {"instances": [f"/1.0/instances/{plain}"], "containers": [f"/1.0/containers/{plain}"]}
