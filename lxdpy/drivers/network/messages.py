"""What the driver and its helper process (`lxdpy.workers.network`) say to each other: one JSON document each way.

stdin   {"operation": "ensure_bridge", "bridge": {...}}         fields of base.BridgeSpec
        {"operation": "remove_bridge", "name": ...}
        {"operation": "plug" | "unplug", "link": {...}, "netns": FD}   fields of base.LinkSpec; FD is inherited
stdout  {} when done, else {"error": "conflict" | "not_found" | "worker", "message": ...}
"""

import dataclasses
import json
from dataclasses import dataclass

from lxdpy.drivers.base import BridgeSpec, LinkSpec
from lxdpy.errors import ConflictError, LxdpyError, NotFoundError, WorkerError

_ERRORS: dict[str, type[LxdpyError]] = {
    "conflict": ConflictError,
    "not_found": NotFoundError,
    "worker": WorkerError,
}


@dataclass(frozen=True, slots=True)
class EnsureBridge:
    """Make a bridge as wanted."""

    bridge: BridgeSpec


@dataclass(frozen=True, slots=True)
class RemoveBridge:
    """Remove a bridge and its rules."""

    name: str


@dataclass(frozen=True, slots=True)
class Plug:
    """Put a link into a network namespace, given as an inherited descriptor."""

    link: LinkSpec
    netns: int


@dataclass(frozen=True, slots=True)
class Unplug:
    """Take a link out of a network namespace."""

    link: LinkSpec
    netns: int


Request = EnsureBridge | RemoveBridge | Plug | Unplug


def encode_request(request: Request) -> bytes:
    """As the helper reads it."""
    document: dict[str, object]
    match request:
        case EnsureBridge(bridge):
            document = {"operation": "ensure_bridge", "bridge": dataclasses.asdict(bridge)}
        case RemoveBridge(name):
            document = {"operation": "remove_bridge", "name": name}
        case Plug(link, netns):
            document = {"operation": "plug", "link": dataclasses.asdict(link), "netns": netns}
        case Unplug(link, netns):
            document = {"operation": "unplug", "link": dataclasses.asdict(link), "netns": netns}
    return json.dumps(document).encode()


def decode_request(data: bytes) -> Request:
    """Raises ValueError, KeyError or TypeError for what the driver would not send."""
    document = json.loads(data)
    match document["operation"]:
        case "ensure_bridge":
            return EnsureBridge(BridgeSpec(**document["bridge"]))
        case "remove_bridge":
            return RemoveBridge(name=str(document["name"]))
        case "plug":
            return Plug(_link(document["link"]), int(document["netns"]))
        case "unplug":
            return Unplug(_link(document["link"]), int(document["netns"]))
        case operation:
            raise ValueError(f"unknown operation {operation!r}")


def encode_reply(error: LxdpyError | None) -> bytes:
    """As the driver reads it."""
    if error is None:
        return b"{}"
    kind = next((kind for kind, cls in _ERRORS.items() if isinstance(error, cls)), "worker")
    return json.dumps({"error": kind, "message": str(error)}).encode()


def raise_reply(data: bytes) -> None:
    """Raise the error that a reply carries, if any. Raises ValueError or KeyError when it is no reply."""
    document = json.loads(data)
    if document:
        raise _ERRORS[document["error"]](document["message"])


def _link(fields: dict[str, object]) -> LinkSpec:
    addresses, gateways = fields.pop("addresses"), fields.pop("gateways")
    assert isinstance(addresses, list)
    assert isinstance(gateways, list)
    return LinkSpec(**fields, addresses=tuple(addresses), gateways=tuple(gateways))  # type: ignore[arg-type]
