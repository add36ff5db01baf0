"""What happens to every request before routing.

Requestor and project are noted, changes are logged, old paths are renamed.
"""

import logging
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from lxdpy.api.peer import peer_of
from lxdpy.operations import current_project, current_requestor
from lxdpy.project import DEFAULT

logger = logging.getLogger(__name__)

_OLD = "/1.0/containers"
_NEW = "/1.0/instances"
_READS = frozenset(("GET", "HEAD", "OPTIONS"))


class Edge:
    """ASGI middleware, first in the row."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        peer = peer_of(scope)
        if peer is not None:
            # Each request runs in a task of its own, and so in a context of its own.
            current_requestor.set(peer.requestor)
        if query := scope["query_string"]:
            current_project.set(parse_qs(query.decode("latin-1")).get("project", [DEFAULT])[-1])
        path: str = scope["path"]
        if scope["type"] == "http" and scope["method"] not in _READS:
            # %r: a path may hold anything, and a log line is one line.
            if peer is None:
                logger.info("%s %r", scope["method"], path)
            else:
                logger.info("%s %r by uid=%d gid=%d pid=%d", scope["method"], path, peer.uid, peer.gid, peer.pid)
        if path.startswith(_OLD) and path[len(_OLD) :][:1] in ("", "/"):
            scope = {**scope, "path": _NEW + path[len(_OLD) :], "instances_prefix": _OLD}
        await self._app(scope, receive, send)


def instances_prefix(scope: Scope) -> str:
    """`/1.0/instances`, or its older name when the client asked by that: lists answer in kind."""
    prefix: str = scope.get("instances_prefix", _NEW)
    return prefix
