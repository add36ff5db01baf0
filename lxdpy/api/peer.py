"""Who is at the other end of the unix socket: SO_PEERCRED, which ASGI has no place for."""

import asyncio
import pwd
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lxdpy.operations import Requestor

_UCRED = struct.Struct("=iII")
_STATE_KEY = "peer"


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that opened the connection."""

    pid: int
    uid: int
    gid: int

    @property
    def requestor(self) -> Requestor:
        """The peer as lifecycle events name it."""
        return _requestor(self.uid)


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which notes the peer in `scope["state"]` of every request and websocket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            # A connection's state is copied into each of its requests, and handed on at an upgrade.
            self.app_state = {**self.app_state, _STATE_KEY: Peer(*_UCRED.unpack(credentials))}


def peer_of(scope: Scope) -> Peer | None:
    """The peer of a request; None when it did not come by a unix socket."""
    peer = scope.get("state", {}).get(_STATE_KEY)
    return peer if isinstance(peer, Peer) else None


@lru_cache(maxsize=256)
def _requestor(uid: int) -> Requestor:
    try:
        return Requestor(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return Requestor(str(uid))
