"""`/1.0/images`: pull, list, name, delete; ancestry."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

from fastapi import Request, Response

from lxdpy.api import downloads, envelope, filtering, uploads
from lxdpy.api.deps import body, images_project, project, read_body, recursion, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import images as schema
from lxdpy.api.schemas.instances import image_source
from lxdpy.db.images import AliasRecord, ImageRecord
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.progress import Progress
from lxdpy.project import in_project, instance_url, qualify
from lxdpy.services.images import ImageSettings

router = Router()

_INSTANCES = ("instance", "container", "snapshot")
_LISTS = {"recursion": "1: objects", "project": "empty: default"}


@router.get("/1.0/images", **documented(list[schema.Image] | list[str], query={**_LISTS, "filter": "as LXD's"}))
async def get_images(request: Request) -> Response:
    """Every image."""
    images, where = services(request).images, images_project(request)
    objects = [schema.render(image, images.aliases.of(image.fingerprint, where)) for image in images.all(where)]
    chosen = filtering.select(filtering.parse(request.query_params.get("filter")), objects)
    if recursion(request) == 0:
        return envelope.sync([in_project(f"/1.0/images/{image['fingerprint']}", where) for image in chosen])
    return envelope.sync(chosen)


@router.post("/1.0/images", **documented(status=202, body=schema.ImagesPost))
async def post_images(request: Request) -> Response:
    """Import an image file (the body, or a form of two files), make an image of an instance, or fetch one from an image
    server (simplestreams) or a registry (extension image_oci_source): an unknown one is a 404 at once."""
    is_json, stream = await uploads.body_stream(request)
    if not is_json:
        return await _import(request, stream)
    found = services(request)
    asked = await read_body(stream, schema.ImagesPost)
    if asked.source.type in _INSTANCES:
        return _publish(request, asked)
    if asked.source.type == "url":
        raise UnsupportedError("Cannot fetch an image from a URL: fetch it, and import the file")
    if asked.source.type != "image":
        raise InvalidRequestError(
            f'Invalid source type "{asked.source.type:.100}" of an image: it may be "image", "instance", "snapshot"'
        )
    where = images_project(request)
    source = dataclasses.replace(image_source(asked.source), project=where)
    wanted = dataclasses.replace(schema.details(asked), project=where)
    if not source.is_remote:
        raise InvalidRequestError('Cannot fetch an image: source needs a "protocol", "oci" or "simplestreams"')
    for profile in wanted.profiles:
        found.profiles.get(project(request), profile)
    image = await found.images.find(source, refresh=True)

    async def run(progress: Progress) -> Mapping[str, object]:
        record = await found.images.fetch(image, wanted, progress)
        return {"fingerprint": record.fingerprint, "size": str(record.size)}

    operation = found.operations.start(
        "Downloading image",
        run,
        resources={"images": [f"/1.0/images/{image.fingerprint}"]},
        cancellable=True,
    )
    return envelope.accepted(operation)


def _publish(request: Request, body: schema.ImagesPost) -> Response:
    """Make an image of an instance or a snapshot in the background."""
    found = services(request)
    instance, slash, snapshot = (body.source.name or "").partition("/")
    wanted = schema.publication(
        body,
        qualify(project(request), instance) + slash + snapshot,
        found.server_config.text("images.compression_algorithm"),
    )
    wanted = dataclasses.replace(wanted, details=dataclasses.replace(wanted.details, project=images_project(request)))
    for profile in wanted.details.profiles:
        found.profiles.get(project(request), profile)
    found.instances.publisher.check(wanted)

    async def run(progress: Progress) -> Mapping[str, object]:
        image = await found.instances.publisher.publish(wanted, progress)
        return {"fingerprint": image.fingerprint, "size": str(image.size)}

    operation = found.operations.start(
        "Downloading image",
        run,
        resources={"instances": [instance_url(wanted.name.partition("/")[0])]},
        cancellable=True,
        project=project(request),
    )
    return envelope.accepted(operation)


async def _import(request: Request, stream: AsyncIterator[bytes]) -> Response:
    """Receive the file, and have the rest done in the background."""
    found = services(request)
    details = dataclasses.replace(uploads.details_of(request), project=images_project(request))
    incoming = found.images.receive()
    try:
        files, filename = await uploads.receive(request, stream, incoming)
        if filename:
            details = dataclasses.replace(details, filename=filename)
        for profile in details.profiles:
            found.profiles.get(project(request), profile)

        async def run(progress: Progress) -> Mapping[str, object]:
            # Clients read these even when the import fails: which image it was that is here already.
            progress.note({"fingerprint": files.fingerprint, "size": str(files.size)})
            try:
                await found.images.import_files(files, details)
            finally:
                incoming.discard()
            return {}

        resources = {"images": [f"/1.0/images/{files.fingerprint}"]}
        operation = found.operations.start("Downloading image", run, resources=resources, cancellable=True)
    except BaseException:
        incoming.discard()
        raise
    return envelope.accepted(operation)


@router.get("/1.0/images/aliases", **documented(list[schema.ImageAliasesEntry] | list[str], query=_LISTS))
async def get_aliases(request: Request) -> Response:
    """Every alias."""
    aliases = services(request).images.aliases.all(images_project(request))
    if recursion(request) == 0:
        return envelope.sync([in_project(f"/1.0/images/aliases/{alias.name}", alias.project) for alias in aliases])
    return envelope.sync([schema.render_alias(alias) for alias in aliases])


@router.post("/1.0/images/aliases", **documented(status=201, body=schema.ImageAliasesPost))
async def post_alias(request: Request) -> Response:
    """Name an image."""
    wanted = await body(request, schema.ImageAliasesPost)
    alias = await services(request).images.add_alias(
        wanted.name, wanted.target, wanted.description or "", images_project(request)
    )
    return envelope.created(in_project(f"/1.0/images/aliases/{quote(alias.name)}", alias.project))


@router.get("/1.0/images/aliases/{name:path}", **documented(schema.ImageAliasesEntry))
async def get_alias(request: Request) -> Response:
    """One alias. An image reference is found in any spelling; one that is not here is looked up in its registry."""
    alias = schema.render_alias(
        await services(request).images.find_alias(request.path_params["name"], images_project(request))
    )
    return envelope.sync(alias, etag=etag(alias))


@router.delete("/1.0/images/aliases/{name:path}", **documented())
async def delete_alias(request: Request) -> Response:
    """Remove a name; the image stays."""
    await services(request).images.aliases.delete(request.path_params["name"], images_project(request))
    return envelope.empty()


@router.put("/1.0/images/aliases/{name:path}", **documented(body=schema.ImageAliasPut))
async def put_alias(request: Request) -> Response:
    """Have a name name another image, or describe it otherwise."""
    wanted = await body(request, schema.ImageAliasPut)
    return await _change_alias(request, wanted.target, wanted.description or "")


@router.patch("/1.0/images/aliases/{name:path}", **documented(body=schema.ImageAliasPatch))
async def patch_alias(request: Request) -> Response:
    """As PUT; what is absent stays."""
    wanted = await body(request, schema.ImageAliasPatch)
    return await _change_alias(request, wanted.target, wanted.description)


async def _change_alias(request: Request, target: str | None, description: str | None) -> Response:
    def change(alias: AliasRecord) -> AliasRecord:
        check_if_match(request, schema.render_alias(alias))
        return dataclasses.replace(
            alias,
            fingerprint=target or alias.fingerprint,
            description=alias.description if description is None else description,
        )

    await services(request).images.update_alias(request.path_params["name"], change, images_project(request))
    return envelope.empty()


@router.post("/1.0/images/aliases/{name:path}", **documented(status=201, body=schema.ImageAliasPost))
async def rename_alias(request: Request) -> Response:
    """Give a name another name."""
    wanted = await body(request, schema.ImageAliasPost)
    await services(request).images.aliases.rename(request.path_params["name"], wanted.name, images_project(request))
    return envelope.created(in_project(f"/1.0/images/aliases/{quote(wanted.name)}", images_project(request)))


@router.put("/1.0/images/{fingerprint}", **documented(body=schema.ImagePut))
async def put_image(request: Request) -> Response:
    """Replace what can be changed of an image."""
    wanted = await body(request, schema.ImagePut)
    return await _change(request, lambda _: schema.replaced(wanted))


@router.patch("/1.0/images/{fingerprint}", **documented(body=schema.ImagePatch))
async def patch_image(request: Request) -> Response:
    """Change some of it; properties that are not named stay."""
    wanted = await body(request, schema.ImagePatch)
    return await _change(request, lambda image: schema.patched(wanted, image))


async def _change(request: Request, change: Callable[[ImageRecord], ImageSettings]) -> Response:
    def checked(image: ImageRecord) -> ImageSettings:
        check_if_match(request, schema.writable(image))
        wanted = change(image)
        for profile in wanted.profiles:
            services(request).profiles.get(project(request), profile)
        return wanted

    await services(request).images.update(request.path_params["fingerprint"], checked, images_project(request))
    return envelope.empty()


@router.delete("/1.0/images/{fingerprint}", **documented(status=202))
async def delete_image(request: Request) -> Response:
    """Delete an image and its aliases; layers that instances or other images use stay."""
    found = services(request)
    where = images_project(request)
    fingerprint = found.images.get(request.path_params["fingerprint"], where).fingerprint

    async def run(progress: Progress) -> None:
        await found.images.delete(fingerprint, where)

    resources = {"images": [f"/1.0/images/{fingerprint}"]}
    return envelope.accepted(found.operations.start("Deleting image", run, resources=resources))


@router.get(
    "/1.0/images/{fingerprint}/export",
    **documented(
        media_type="application/octet-stream",
        description="The image's file as it came; of an image of two files a form with parts metadata and rootfs",
    ),
)
async def export_image(request: Request) -> Response:
    """An LXD image's files; OCI images are not exported."""
    return downloads.answer(
        await services(request).images.export(request.path_params["fingerprint"], images_project(request))
    )


@router.head("/1.0/images/{fingerprint}/export", **documented(description="As GET, without the file"))
async def head_image_export(request: Request) -> Response:
    """Name and size of what GET would send."""
    return downloads.answer(
        await services(request).images.export(request.path_params["fingerprint"], images_project(request)), head=True
    )


@router.post("/1.0/images/{fingerprint}/refresh", **documented(status=202))
async def refresh_image(request: Request) -> Response:
    """Fetch what the image's source has now; metadata's `refreshed` says whether that is a newer image."""
    found = services(request)
    fingerprint = found.images.get(request.path_params["fingerprint"], images_project(request)).fingerprint

    async def run(progress: Progress) -> Mapping[str, object]:
        return {"refreshed": await found.upkeep.refresh(fingerprint, progress)}

    resources = {"images": [f"/1.0/images/{fingerprint}"]}
    return envelope.accepted(found.operations.start("Refreshing image", run, resources=resources, cancellable=True))


@router.get("/1.0/images/{fingerprint}/ancestry", **documented(list[schema.ImageAncestryEntry]))
async def get_ancestry(request: Request) -> Response:
    """The image's layers, newest first, each with its chain id and the step that made it (image_ancestry)."""
    images = services(request).images
    entries = images.ancestry(images.get(request.path_params["fingerprint"], images_project(request)).fingerprint)
    return envelope.sync([schema.render_ancestry(entry) for entry in entries])


# The last one: a reference may hold slashes, and all that is not another path of images may be a reference.
@router.get("/1.0/images/{fingerprint:path}", **documented(schema.Image))
async def get_image(request: Request) -> Response:
    """One image by fingerprint or a prefix of it; also one that was looked up in a registry lately."""
    images = services(request).images
    where = images_project(request)
    image = images.show(request.path_params["fingerprint"], where)
    rendered = schema.render(image, images.aliases.of(image.fingerprint, where))
    return envelope.sync(rendered, etag=etag(schema.writable(image)))
