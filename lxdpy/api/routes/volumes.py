"""`/1.0/storage-pools/POOL/volumes`: volumes; custom ones are made, copied, changed, renamed, deleted; snapshots."""

from urllib.parse import quote

from fastapi import Request, Response

from lxdpy.api import envelope, filtering, uploads
from lxdpy.api.deps import body, project, projects, recursion, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import storage as schema
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.progress import Progress
from lxdpy.services.projects import Feature
from lxdpy.services.storage import Settings, Volume, VolumeKey, VolumeSource, volume_path

router = Router()

_VOLUMES = "/1.0/storage-pools/{pool}/volumes"
_LISTS = {
    "recursion": "1: objects",
    "filter": "as LXD's, e.g. `name eq data`",
    "project": "whose volumes",
    "all-projects": "true: of every project",
}
_PROJECT = {"project": "whose volume"}
_KINDS = ("container", "virtual-machine", "image", "custom")


@router.get(_VOLUMES, **documented(list[schema.StorageVolume] | list[str], query=_LISTS))
async def get_storage_volumes(request: Request) -> Response:
    """Every volume of a pool: custom ones with their snapshots, and instances and images where the pool holds them."""
    return _list(request, None)


@router.post(_VOLUMES, **documented(or_accepted=True, body=schema.StorageVolumesPost, query=_PROJECT))
async def post_storage_volumes(request: Request) -> Response:
    """Make a custom volume; a copy is an operation (202)."""
    return await _create(request)


@router.get(_VOLUMES + "/{type}", **documented(list[schema.StorageVolume] | list[str], query=_LISTS))
async def get_storage_volumes_type(request: Request) -> Response:
    """The volumes of one type: custom, container or image."""
    return _list(request, request.path_params["type"])


@router.post(_VOLUMES + "/{type}", **documented(or_accepted=True, body=schema.StorageVolumesPost, query=_PROJECT))
async def post_storage_volumes_type(request: Request) -> Response:
    """Make a custom volume; a copy is an operation (202)."""
    check_custom(request, "created")
    return await _create(request)


@router.get(_VOLUMES + "/{type}/{volume}", **documented(schema.StorageVolume, query=_PROJECT))
async def get_storage_volume(request: Request) -> Response:
    """One volume."""
    volume = services(request).storage.volumes.get(request.path_params["type"], key_of(request))
    return envelope.sync(schema.render_volume(volume), etag=etag(schema.writable(volume.settings)))


@router.put(_VOLUMES + "/{type}/{volume}", **documented(body=schema.StorageVolumePut, query=_PROJECT))
async def put_storage_volume(request: Request) -> Response:
    """Replace what may be written, or restore a snapshot's files."""
    check_custom(request, "changed")
    volumes, key = services(request).storage.volumes, key_of(request)
    new = await body(request, schema.StorageVolumePut)

    def wanted(current: Settings) -> Settings:
        check_if_match(request, schema.writable(current))
        return schema.put(new)

    if new.restore:
        check_if_match(request, schema.writable(volumes.settings(key)))
        await volumes.restore(key, new.restore)
    else:
        await volumes.update(key, wanted)
    return envelope.empty()


@router.patch(_VOLUMES + "/{type}/{volume}", **documented(body=schema.StoragePatch, query=_PROJECT))
async def patch_storage_volume(request: Request) -> Response:
    """Change a part of what may be written; an empty value removes a key."""
    check_custom(request, "changed")
    patch = await body(request, schema.StoragePatch)

    def wanted(current: Settings) -> Settings:
        check_if_match(request, schema.writable(current))
        return schema.patched(current, patch)

    await services(request).storage.volumes.update(key_of(request), wanted)
    return envelope.empty()


@router.post(
    _VOLUMES + "/{type}/{volume}",
    **documented(status=201, or_accepted=True, body=schema.StorageVolumePost, query=_PROJECT),
)
async def post_storage_volume(request: Request) -> Response:
    """Rename a custom volume, or move it to another pool, which is an operation (202)."""
    check_custom(request, "renamed")
    found, key = services(request), key_of(request)
    volumes = found.storage.volumes
    wanted = await body(request, schema.StorageVolumePost)
    if wanted.migration:
        raise UnsupportedError(f'Cannot migrate volume "{key.name}": hosts do not exchange volumes')
    new = VolumeKey(wanted.pool or key.pool, _owner(request, wanted.project) or key.project, wanted.name)
    if (new.pool, new.project) == (key.pool, key.project):
        await volumes.rename(key, wanted.name)
        return envelope.created(volume_path(new))
    source = VolumeSource(key, with_snapshots=not wanted.volume_only)
    volumes.check_move(new, source)

    async def run(progress: Progress) -> None:
        await volumes.move(new, source)

    return envelope.accepted(
        found.operations.start(
            "Moving storage volume",
            run,
            resources={"storage_volumes": [volume_path(key)]},
            cancellable=True,
            project=key.project,
        )
    )


@router.delete(_VOLUMES + "/{type}/{volume}", **documented(query=_PROJECT))
async def delete_storage_volume(request: Request) -> Response:
    """Delete a custom volume that nothing uses, and its snapshots."""
    volumes, key = services(request).storage.volumes, key_of(request)
    if request.path_params["type"] != "custom":
        volumes.get(request.path_params["type"], key)
    check_custom(request, "deleted")
    await volumes.delete(key)
    return envelope.empty()


@router.get(_VOLUMES + "/{type}/{volume}/state", **documented(schema.StorageVolumeState, query=_PROJECT))
async def get_storage_volume_state(request: Request) -> Response:
    """What a custom volume takes on its disk."""
    kind, key, volumes = request.path_params["type"], key_of(request), services(request).storage.volumes
    if kind != "custom":
        volumes.get(kind, key)
        raise UnsupportedError(f'Cannot measure {kind} volume "{key.name}": only custom volumes are')
    return envelope.sync({"usage": {"used": await volumes.usage(key)}})


# ---- snapshots


@router.get(
    _VOLUMES + "/{type}/{volume}/snapshots",
    **documented(list[schema.StorageVolumeSnapshot] | list[str], query={"recursion": "1: objects", **_PROJECT}),
)
async def get_storage_volume_snapshots(request: Request) -> Response:
    """A custom volume's snapshots, oldest first."""
    check_custom(request, "listed")
    key = key_of(request)
    snapshots = services(request).storage.volumes.snapshots.all(key)
    if recursion(request) == 0:
        return envelope.sync([volume_path(key, snapshot.snapshot) for snapshot in snapshots])
    # Here LXD's clients want the volume's name, too.
    return envelope.sync(
        [{**schema.render_snapshot(each), "name": f"{each.name}/{each.snapshot}"} for each in snapshots]
    )


@router.post(
    _VOLUMES + "/{type}/{volume}/snapshots",
    **documented(status=202, body=schema.StorageVolumeSnapshotsPost, query=_PROJECT),
)
async def post_storage_volume_snapshots(request: Request) -> Response:
    """Copy a custom volume as it is now."""
    check_custom(request, "copied")
    found, key = services(request), key_of(request)
    snapshots = found.storage.volumes.snapshots
    wanted = await body(request, schema.StorageVolumeSnapshotsPost)
    expires_at = schema.expiry_of(wanted.expires_at)
    name = wanted.name or snapshots.next_name(key)
    snapshots.check_new(key, name)

    async def run(progress: Progress) -> None:
        await snapshots.take(key, name, wanted.description, expires_at)

    return envelope.accepted(
        found.operations.start(
            "Creating storage volume snapshot",
            run,
            resources={"storage_volumes": [volume_path(key)], "storage_volume_snapshots": [volume_path(key, name)]},
            cancellable=True,
            project=key.project,
        )
    )


_SNAPSHOT = _VOLUMES + "/{type}/{volume}/snapshots/{snapshot}"


@router.get(_SNAPSHOT, **documented(schema.StorageVolumeSnapshot, query=_PROJECT))
async def get_storage_volume_snapshot(request: Request) -> Response:
    """One snapshot."""
    check_custom(request, "listed")
    snapshot = services(request).storage.volumes.snapshots.get(key_of(request), request.path_params["snapshot"])
    return envelope.sync(schema.render_snapshot(snapshot), etag=etag(schema.writable(snapshot.settings)))


@router.put(_SNAPSHOT, **documented(body=schema.StorageVolumeSnapshotPut, query=_PROJECT))
async def put_storage_volume_snapshot(request: Request) -> Response:
    """Replace a snapshot's description."""
    return await _describe_snapshot(request, keep=False)


@router.patch(_SNAPSHOT, **documented(body=schema.StorageVolumeSnapshotPut, query=_PROJECT))
async def patch_storage_volume_snapshot(request: Request) -> Response:
    """Change a snapshot's description, if one is given."""
    return await _describe_snapshot(request, keep=True)


async def _describe_snapshot(request: Request, *, keep: bool) -> Response:
    check_custom(request, "changed")
    new = await body(request, schema.StorageVolumeSnapshotPut)

    def wanted(current: Settings) -> Settings:
        check_if_match(request, schema.writable(current))
        text = new.description
        if text is None:
            text = current.description if keep else ""
        return Settings(text, current.config)

    await services(request).storage.volumes.snapshots.update(
        key_of(request), request.path_params["snapshot"], wanted, schema.expiry_of(new.expires_at)
    )
    return envelope.empty()


@router.post(_SNAPSHOT, **documented(status=202, body=schema.StorageVolumeSnapshotPost, query=_PROJECT))
async def post_storage_volume_snapshot(request: Request) -> Response:
    """Rename a snapshot."""
    check_custom(request, "renamed")
    found, key, name = services(request), key_of(request), request.path_params["snapshot"]
    snapshots = found.storage.volumes.snapshots
    new = (await body(request, schema.StorageVolumeSnapshotPost)).name
    snapshots.get(key, name)
    snapshots.check_new(key, new)

    async def run(progress: Progress) -> None:
        await snapshots.rename(key, name, new)

    return envelope.accepted(
        found.operations.start(
            "Renaming storage volume snapshot",
            run,
            resources={"storage_volume_snapshots": [volume_path(key, name)]},
            project=key.project,
        )
    )


@router.delete(_SNAPSHOT, **documented(status=202, query=_PROJECT))
async def delete_storage_volume_snapshot(request: Request) -> Response:
    """Delete a snapshot."""
    check_custom(request, "deleted")
    found, key, name = services(request), key_of(request), request.path_params["snapshot"]
    snapshots = found.storage.volumes.snapshots
    snapshots.get(key, name)

    async def run(progress: Progress) -> None:
        await snapshots.delete(key, name)

    return envelope.accepted(
        found.operations.start(
            "Deleting storage volume snapshot",
            run,
            resources={"storage_volume_snapshots": [volume_path(key, name)]},
            project=key.project,
        )
    )


# ---- helpers


def _project(request: Request) -> str:
    """The project whose volumes are meant. Raises NotFoundError for one that does not exist."""
    return services(request).projects.owner(project(request), Feature.VOLUMES)


def key_of(request: Request) -> VolumeKey:
    """The custom volume that the path names. Raises NotFoundError for a project that does not exist."""
    return VolumeKey(request.path_params["pool"], _project(request), request.path_params["volume"])


def _owner(request: Request, name: str | None) -> str | None:
    """The project whose volumes are meant by a project in a body, if there is one. Raises NotFoundError."""
    return services(request).projects.owner(name, Feature.VOLUMES) if name else None


def check_custom(request: Request, attempt: str) -> None:
    """Raises InvalidRequestError for a volume that is no custom one."""
    kind = request.path_params["type"]
    if kind != "custom":
        raise InvalidRequestError(f'Storage volumes of type "{kind:.100}" cannot be {attempt} with the storage API')


def _list(request: Request, kind: str | None) -> Response:
    if kind not in (None, *_KINDS):
        raise InvalidRequestError(f'Invalid storage volume type "{kind:.100}"')
    volumes = [
        volume
        for volume in services(request).storage.volumes.all(request.path_params["pool"])
        if kind in (None, volume.kind)
    ]
    asked = projects(request)
    if asked is not None:
        owner = services(request).projects.owner(asked, Feature.VOLUMES)
        volumes = [each for each in volumes if each.project == (owner if each.kind == "custom" else asked)]
    clauses = filtering.parse(request.query_params.get("filter"))
    if clauses:
        volumes = [volume for volume in volumes if filtering.matches(clauses, schema.render_volume(volume))]
    if recursion(request) == 0:
        return envelope.sync([_path(volume) for volume in volumes])
    return envelope.sync([schema.render_volume(volume) for volume in volumes])


def _path(volume: Volume) -> str:
    if volume.kind == "custom":
        return volume_path(VolumeKey(volume.pool, volume.project, volume.name), volume.snapshot)
    return f"/1.0/storage-pools/{quote(volume.pool, safe='')}/volumes/{volume.kind}/{quote(volume.name, safe='')}"


async def _import(request: Request, pool: str, owner: str) -> Response:
    """Receive a backup, and have a volume made of it in the background."""
    found, name = services(request), request.headers.get("x-lxd-name", "")
    found.storage.pool(pool)
    incoming = found.images.receive()
    try:
        files, _ = await uploads.receive(request, request.stream(), incoming)

        async def run(progress: Progress) -> None:
            try:
                await found.storage.backups.restore(pool, owner, name, files)
            finally:
                incoming.discard()

        resources = {"storage_volumes": [volume_path(VolumeKey(pool, owner, name))]} if name else {}
        operation = found.operations.start(
            "Restoring custom volume backup", run, resources=resources, cancellable=True, project=owner
        )
    except BaseException:
        incoming.discard()
        raise
    return envelope.accepted(operation)


async def _create(request: Request) -> Response:
    found, pool, owner = services(request), request.path_params["pool"], _project(request)
    volumes = found.storage.volumes
    if request.headers.get("content-type", "").startswith("application/octet-stream"):
        return await _import(request, pool, owner)
    wanted = await body(request, schema.StorageVolumesPost)
    from_owner = _owner(request, wanted.source.project) if wanted.source else None
    source = schema.volume_source(wanted, pool, from_owner or owner)
    key = VolumeKey(pool, owner, wanted.name)
    if source is None:
        await volumes.create(key, schema.put(wanted))
        return envelope.empty()
    volumes.check_copy(key, source, schema.put(wanted))

    async def run(progress: Progress) -> None:
        await volumes.copy(key, source, schema.put(wanted))

    return envelope.accepted(
        found.operations.start(
            "Copying storage volume",
            run,
            resources={"storage_volumes": [volume_path(key)]},
            cancellable=True,
            project=owner,
        )
    )
