"""`/1.0/instances/NAME/files?path=`: look, read, write, make and delete, by LXD's X-LXD headers."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lxdpy.api import envelope
from lxdpy.api.deps import instance_name, services
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import files as schema
from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.services.instances import Transfer

router = Router()

_PATH = "/1.0/instances/{name}/files"
_OCTETS = "application/octet-stream"
_QUERY = {"path": "from the instance's root, with or without a leading slash"}
_PART = 1 << 20


@router.get(
    _PATH, **documented(media_type=_OCTETS, description="A file, a link's target; a list of names", query=_QUERY)
)
async def get_file(request: Request) -> Response:
    """A file's content, a directory's names (JSON) or a link's target; X-LXD-type says which."""
    path = _path(request)
    found = await services(request).instances.files.read(instance_name(request), path)
    headers = schema.headers(found.status)
    if found.names is not None:
        answer = envelope.sync([schema.shown(name) for name in found.names])
        answer.headers.update(headers)
        return answer
    headers["Content-Disposition"] = f"inline;filename={_file_name(path)}"
    if found.data is None:
        return Response((found.target or "").encode("utf-8", "surrogateescape"), headers=headers, media_type=_OCTETS)
    return await _content(found.data, found.status.size_bytes, headers)


@router.head(_PATH, **documented(media_type=_OCTETS, description="Headers alone", query=_QUERY))
async def head_file(request: Request) -> Response:
    """What is at a path, without what is in it."""
    status = await services(request).instances.files.status(instance_name(request), _path(request))
    return Response(headers=schema.headers(status), media_type=_OCTETS)


@router.post(_PATH, **documented(query=_QUERY))
async def post_file(request: Request) -> Response:
    """Write a file, or make a directory or a symbolic link (X-LXD-type). The body is the content, or the target."""
    path = _path(request)
    new = schema.new_file(request.headers)
    await services(request).instances.files.write(instance_name(request), path, new, request.stream())
    return envelope.empty()


@router.delete(_PATH, **documented(query=_QUERY))
async def delete_file(request: Request) -> Response:
    """Delete a file or an empty directory."""
    await services(request).instances.files.delete(instance_name(request), _path(request))
    return envelope.empty()


class _Download(StreamingResponse):
    """Closes the file however the request ends."""

    def __init__(self, body: AsyncIterator[bytes], transfer: Transfer, headers: dict[str, str]) -> None:
        super().__init__(body, headers=headers, media_type=_OCTETS)
        self._transfer = transfer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._transfer.close()


async def _content(transfer: Transfer, size: int, headers: dict[str, str]) -> Response:
    """A file as an answer: a small one in one piece. Files of /proc have no size, and content."""
    try:
        first = await transfer.read(_PART)
    except BaseException as exc:
        await transfer.close()
        if isinstance(exc, OSError):
            raise WorkerError(f"Cannot read file: {exc.strerror}") from exc
        raise
    if not first or (size and len(first) < _PART):
        await transfer.close()
        return Response(first, headers=headers, media_type=_OCTETS)
    return _Download(_parts(first, transfer), transfer, {**headers, **({"Content-Length": str(size)} if size else {})})


async def _parts(first: bytes, transfer: Transfer) -> AsyncIterator[bytes]:
    yield first
    while data := await transfer.read(_PART):
        yield data


def _path(request: Request) -> str:
    """`path=`, as bytes that may be no UTF-8. Raises InvalidRequestError."""
    query = request.scope["query_string"].decode("latin-1")
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    path = next((value for name, value in pairs if name == "path"), "")
    if not path:
        raise InvalidRequestError("Missing path argument")
    return "/" + path.lstrip("/")


def _file_name(path: str) -> str:
    """The last part of a path as a header may hold it."""
    return quote(path.rstrip("/").rpartition("/")[2], safe=" !#$&+,:=@[]^`{}~", errors="surrogateescape")
