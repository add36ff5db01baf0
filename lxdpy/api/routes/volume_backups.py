"""`/1.0/storage-pools/POOL/volumes/custom/VOLUME/backups`: custom volumes packed into files."""

from fastapi import Request, Response

from lxdpy.api import downloads, envelope
from lxdpy.api.deps import body, recursion, services
from lxdpy.api.routes.volumes import check_custom, key_of
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import storage as schema
from lxdpy.progress import Progress
from lxdpy.services.images import ExportedFile
from lxdpy.services.storage import volume_path

router = Router()

_BACKUPS = "/1.0/storage-pools/{pool}/volumes/{type}/{volume}/backups"
_BACKUP = _BACKUPS + "/{backup}"


@router.get(_BACKUPS, **documented(list[schema.StorageVolumeBackup] | list[str], query={"recursion": "1: objects"}))
async def get_volume_backups(request: Request) -> Response:
    """A volume's backups, oldest first."""
    check_custom(request, "listed")
    key = key_of(request)
    backups = services(request).storage.backups.all(key)
    if recursion(request) == 0:
        path, question, project = volume_path(key).partition("?")
        return envelope.sync([f"{path}/backups/{backup.name}{question}{project}" for backup in backups])
    return envelope.sync([schema.render_backup(backup) for backup in backups])


@router.post(_BACKUPS, **documented(status=202, body=schema.StorageVolumeBackupsPost))
async def post_volume_backups(request: Request) -> Response:
    """Pack a volume as it is now."""
    check_custom(request, "packed")
    found, key = services(request), key_of(request)
    wanted = await body(request, schema.StorageVolumeBackupsPost)
    backups = found.storage.backups
    compression = found.server_config.text("backups.compression_algorithm")
    new = schema.new_backup(wanted, key, wanted.name or backups.next_name(key), compression)
    backups.check_new(key, new.name)

    async def run(progress: Progress) -> None:
        await backups.create(new, progress)

    operation = found.operations.start(
        "Creating custom volume backup",
        run,
        # LXD's clients cut /1.0/backups/ off.
        resources={"storage_volumes": [volume_path(key)], "backups": [f"/1.0/backups/{new.name}"]},
        cancellable=True,
        project=key.project,
    )
    return envelope.accepted(operation)


@router.get(_BACKUP, **documented(schema.StorageVolumeBackup))
async def get_volume_backup(request: Request) -> Response:
    """One backup."""
    check_custom(request, "listed")
    backup = services(request).storage.backups.get(key_of(request), request.path_params["backup"])
    return envelope.sync(schema.render_backup(backup))


@router.post(_BACKUP, **documented(status=202, body=schema.StorageVolumeBackupPost))
async def post_volume_backup(request: Request) -> Response:
    """Rename a backup."""
    check_custom(request, "renamed")
    found, key, old = services(request), key_of(request), request.path_params["backup"]
    new = (await body(request, schema.StorageVolumeBackupPost)).name
    backups = found.storage.backups
    backups.get(key, old)
    backups.check_new(key, new)

    async def run(progress: Progress) -> None:
        await backups.rename(key, old, new)

    operation = found.operations.start(
        "Renaming custom volume backup", run, resources={"volume": [volume_path(key)]}, project=key.project
    )
    return envelope.accepted(operation)


@router.delete(_BACKUP, **documented(status=202))
async def delete_volume_backup(request: Request) -> Response:
    """Delete a backup."""
    check_custom(request, "deleted")
    found, key, name = services(request), key_of(request), request.path_params["backup"]
    backups = found.storage.backups
    backups.get(key, name)

    async def run(progress: Progress) -> None:
        await backups.delete(key, name)

    operation = found.operations.start(
        "Deleting custom volume backup", run, resources={"volume": [volume_path(key)]}, project=key.project
    )
    return envelope.accepted(operation)


@router.get(_BACKUP + "/export", **documented(media_type="application/octet-stream", description="The backup's file"))
async def export_volume_backup(request: Request) -> Response:
    """The file."""
    check_custom(request, "exported")
    name = request.path_params["backup"]
    file, size = await services(request).storage.backups.open(key_of(request), name)
    return downloads.answer([ExportedFile("", name, size, file)])
