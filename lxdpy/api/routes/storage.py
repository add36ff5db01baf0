"""`/1.0/storage-pools`: pools, which belong to no project."""

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, recursion, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import storage as schema
from lxdpy.services.storage import Pool, Settings

router = Router()


@router.get("/1.0/storage-pools", **documented(list[schema.StoragePool] | list[str], query={"recursion": "1: objects"}))
async def get_storage_pools(request: Request) -> Response:
    """Every storage pool."""
    pools = [schema.render_pool(pool) for pool in services(request).storage.pools()]
    if recursion(request) == 0:
        return envelope.sync([f"/1.0/storage-pools/{pool['name']}" for pool in pools])
    return envelope.sync(pools)


@router.post("/1.0/storage-pools", **documented(status=201, body=schema.StoragePoolsPost))
async def post_storage_pool(request: Request) -> Response:
    """Make a pool."""
    wanted = await body(request, schema.StoragePoolsPost)
    await services(request).storage.create_pool(wanted.name, wanted.driver, schema.put(wanted))
    return envelope.created(f"/1.0/storage-pools/{wanted.name}")


@router.get("/1.0/storage-pools/{pool}", **documented(schema.StoragePool))
async def get_storage_pool(request: Request) -> Response:
    """One storage pool."""
    pool = services(request).storage.pool(request.path_params["pool"])
    return envelope.sync(schema.render_pool(pool), etag=etag(schema.writable(schema.pool_settings(pool))))


@router.put("/1.0/storage-pools/{pool}", **documented(body=schema.StoragePut))
async def put_storage_pool(request: Request) -> Response:
    """Replace what may be written."""
    new = schema.put(await body(request, schema.StoragePut))

    def wanted(current: Pool) -> Settings:
        check_if_match(request, schema.writable(schema.pool_settings(current)))
        return new

    await services(request).storage.update_pool(request.path_params["pool"], wanted)
    return envelope.empty()


@router.patch("/1.0/storage-pools/{pool}", **documented(body=schema.StoragePatch))
async def patch_storage_pool(request: Request) -> Response:
    """Change a part of what may be written; an empty value removes a key."""
    patch = await body(request, schema.StoragePatch)

    def wanted(current: Pool) -> Settings:
        settings = schema.pool_settings(current)
        check_if_match(request, schema.writable(settings))
        return schema.patched(settings, patch)

    await services(request).storage.update_pool(request.path_params["pool"], wanted)
    return envelope.empty()


@router.delete("/1.0/storage-pools/{pool}", **documented())
async def delete_storage_pool(request: Request) -> Response:
    """Delete an unused pool; a directory of the administrator's stays, empty."""
    await services(request).storage.delete_pool(request.path_params["pool"])
    return envelope.empty()


@router.get("/1.0/storage-pools/{pool}/resources", **documented(schema.StoragePoolResources))
async def get_storage_pool_resources(request: Request) -> Response:
    """Space and inodes of the file system that a pool lies on."""
    resources = await services(request).storage.resources(request.path_params["pool"])
    return envelope.sync(schema.render_resources(resources))
