"""`/1.0/instances/NAME/metadata`: what an instance keeps of its image, and its templates."""

from urllib.parse import quote

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, instance_name, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import instance_metadata as schema
from lxdpy.errors import InvalidRequestError
from lxdpy.image_metadata import ImageMetadata
from lxdpy.services.instances.metadata import MAX_TEMPLATE_BYTES

router = Router()

_FILE = "application/octet-stream"
_PATH = {"path": "name of a template"}


@router.get("/1.0/instances/{name}/metadata", **documented(schema.Metadata))
async def get_metadata(request: Request) -> Response:
    """metadata.yaml of the instance; of one of an OCI image what can be said of that."""
    found = schema.render(await services(request).instances.metadata.get(instance_name(request)))
    return envelope.sync(found, etag=etag(found))


@router.put("/1.0/instances/{name}/metadata", **documented(body=schema.Metadata))
async def put_metadata(request: Request) -> Response:
    """Replace it; templates that it names are due from the next start on."""
    kept = services(request).instances.metadata
    name = instance_name(request)
    await kept.get(name)
    new = schema.replaced(await body(request, schema.Metadata))

    def wanted(current: ImageMetadata) -> ImageMetadata:
        check_if_match(request, schema.render(current))
        return new

    await kept.update(name, wanted)
    return envelope.empty()


@router.patch("/1.0/instances/{name}/metadata", **documented(body=schema.Metadata))
async def patch_metadata(request: Request) -> Response:
    """Change a part of it."""
    kept = services(request).instances.metadata
    name = instance_name(request)
    await kept.get(name)
    patch = await body(request, schema.Metadata)

    def wanted(current: ImageMetadata) -> ImageMetadata:
        check_if_match(request, schema.render(current))
        return schema.patched(current, patch)

    await kept.update(name, wanted)
    return envelope.empty()


@router.get(
    "/1.0/instances/{name}/metadata/templates",
    **documented(list[str], query={"path": "name of a template, whose bytes are the answer then"}),
)
async def get_templates(request: Request) -> Response:
    """Names of the instance's templates, or one of them."""
    kept = services(request).instances.metadata
    name = instance_name(request)
    template = request.query_params.get("path")
    if not template:
        return envelope.sync(await kept.templates(name))
    headers = {"Content-Disposition": f"inline;filename={quote(template)}"}
    return Response(await kept.template(name, template), headers=headers, media_type=_FILE)


@router.post("/1.0/instances/{name}/metadata/templates", **documented(query=_PATH))
async def post_template(request: Request) -> Response:
    """Make or replace a template: the body is its text."""
    kept = services(request).instances.metadata
    template = _template(request)
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_TEMPLATE_BYTES:
            raise InvalidRequestError(f"Invalid template: it has more than {MAX_TEMPLATE_BYTES} bytes")
    await kept.write_template(instance_name(request), template, bytes(data))
    return envelope.empty()


@router.delete("/1.0/instances/{name}/metadata/templates", **documented(query=_PATH))
async def delete_template(request: Request) -> Response:
    """Delete a template."""
    template = _template(request)
    await services(request).instances.metadata.delete_template(instance_name(request), template)
    return envelope.empty()


def _template(request: Request) -> str:
    template = request.query_params.get("path")
    if not template:
        raise InvalidRequestError('Missing query parameter "path": the name of a template')
    return template
