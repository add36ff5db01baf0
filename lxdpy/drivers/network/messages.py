"""What the driver and its helper process (`lxdpy.workers.network`) say to each other: one JSON document each way.

stdin   {"operation": "ensure_bridge" | "remove_bridge", "name": ..., "ipv4_address": ..., "nat": ...}
stdout  {} when done, else {"error": "conflict" | "worker", "message": ...}
"""

import json
from dataclasses import dataclass

from lxdpy.drivers.base import BridgeSpec
from lxdpy.errors import ConflictError, LxdpyError, WorkerError

_ERRORS: dict[str, type[LxdpyError]] = {"conflict": ConflictError, "worker": WorkerError}


@dataclass(frozen=True, slots=True)
class EnsureBridge:
    """Make a bridge as wanted."""

    bridge: BridgeSpec


@dataclass(frozen=True, slots=True)
class RemoveBridge:
    """Remove a bridge and its rules."""

    name: str


Request = EnsureBridge | RemoveBridge


def encode_request(request: Request) -> bytes:
    """As the helper reads it."""
    if isinstance(request, RemoveBridge):
        return json.dumps({"operation": "remove_bridge", "name": request.name}).encode()
    bridge = request.bridge
    document = {
        "operation": "ensure_bridge",
        "name": bridge.name,
        "ipv4_address": bridge.ipv4_address,
        "nat": bridge.nat,
    }
    return json.dumps(document).encode()


def decode_request(data: bytes) -> Request:
    """Raises ValueError or KeyError for what the driver would not send."""
    document = json.loads(data)
    if document["operation"] == "remove_bridge":
        return RemoveBridge(name=str(document["name"]))
    if document["operation"] == "ensure_bridge":
        return EnsureBridge(BridgeSpec(document["name"], document["ipv4_address"], bool(document["nat"])))
    raise ValueError(f"unknown operation {document['operation']!r}")


def encode_reply(error: LxdpyError | None) -> bytes:
    """As the driver reads it."""
    if error is None:
        return b"{}"
    kind = "conflict" if isinstance(error, ConflictError) else "worker"
    return json.dumps({"error": kind, "message": str(error)}).encode()


def raise_reply(data: bytes) -> None:
    """Raise the error that a reply carries, if any. Raises ValueError or KeyError when it is no reply."""
    document = json.loads(data)
    if document:
        raise _ERRORS[document["error"]](document["message"])
