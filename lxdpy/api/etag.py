"""ETags: which version of a thing a client has seen."""

import hashlib
import json

from fastapi import Request

from lxdpy.errors import PreconditionFailedError


def etag(value: object) -> str:
    """The ETag of `value` (JSON types): the same for equal values, whatever the order of keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(canonical.encode()).hexdigest()}"'


def check_if_match(request: Request, value: object) -> None:
    """Raises PreconditionFailedError when If-Match names another version than `value`'s; absent is no check."""
    header = request.headers.get("if-match")
    if not header:
        return
    current = etag(value)
    wanted = [entry.strip().removeprefix("W/").strip('"') for entry in header.split(",")]
    if "*" not in wanted and current.strip('"') not in wanted:
        raise PreconditionFailedError(f"ETag doesn't match: {current[1:-1]} vs {header}")
