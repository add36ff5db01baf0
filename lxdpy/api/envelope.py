"""LXD's answers: always all seven keys, and a newline at the end.

    {"type": "sync" | "async" | "error", "status": ..., "status_code": ..., "operation": ...,
     "error_code": ..., "error": ..., "metadata": ...}

JSON is put together from rendered parts: an answer costs one serialisation of its metadata.
"""

from collections.abc import Iterable, Mapping

from fastapi import Response
from pydantic_core import to_json

from lxdpy.operations import Operation
from lxdpy.project import in_project

JSON = "application/json"

_SUCCESS = b'{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":'
_CREATED = b'{"type":"async","status":"Operation created","status_code":100,"operation":'
_NO_ERROR = b',"error_code":0,"error":"","metadata":'
_END = b"}\n"


def sync_bytes(metadata: object) -> bytes:
    """The body of a synchronous success."""
    return _SUCCESS + to_json(metadata) + _END


def sync(metadata: object, *, etag: str | None = None) -> Response:
    """200 with `metadata`."""
    return Response(sync_bytes(metadata), media_type=JSON, headers=None if etag is None else {"ETag": etag})


def sync_rendered(metadata: bytes, *, etag: str | None = None) -> Response:
    """200 with metadata that is JSON already."""
    body = b"".join((_SUCCESS, metadata, _END))
    return Response(body, media_type=JSON, headers=None if etag is None else {"ETag": etag})


def sync_list(items: Iterable[bytes]) -> Response:
    """200 with a list of objects that are JSON already."""
    return sync_rendered(b"[" + b",".join(items) + b"]")


def empty() -> Response:
    """200 with nothing to say."""
    return Response(_SUCCESS + b"{}" + _END, media_type=JSON)


def created(location: str) -> Response:
    """201: `location` is the path of what was made."""
    return Response(_SUCCESS + b"null" + _END, 201, {"Location": location}, JSON)


def accepted(operation: Operation) -> Response:
    """202: the work goes on in `operation`."""
    path = in_project(operation.path, operation.project)
    body = _CREATED + to_json(path) + _NO_ERROR + to_json(operation.render()) + _END
    return Response(body, 202, {"Location": path}, JSON)


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal or a failure."""
    body = {
        "type": "error",
        "status": "",
        "status_code": 0,
        "operation": "",
        "error_code": status,
        "error": message,
        "metadata": None,
    }
    return Response(to_json(body) + b"\n", status, {"X-Content-Type-Options": "nosniff", **(headers or {})}, JSON)
