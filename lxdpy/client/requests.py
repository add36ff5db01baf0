"""Requests and answers as pure functions: what to send for each verb, and what an answer means. No I/O."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

from lxdpy.client.errors import LXDError, from_status

API = "/1.0"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` is escaped already."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: object = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer; `operation` is the operation's path if work goes on in the background."""

    metadata: Any
    operation: str


def parse_answer(status: int, body: bytes) -> Answer:
    """Read the envelope. Raises the LXDError that the answer stands for."""
    try:
        envelope = json.loads(body)
        kind = envelope["type"]
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace")
        raise LXDError(status, f"HTTP {status} is not an answer of the LXD API: {text!r}") from None
    if kind == "error" or status >= 400:
        raise from_status(
            envelope.get("error_code") or status, envelope.get("error") or f"The server answered HTTP {status}"
        )
    return Answer(envelope.get("metadata"), (envelope.get("operation") or "") if kind == "async" else "")


def path(*parts: str) -> str:
    """/1.0/a/b with each part escaped, slashes too."""
    return "/".join((API, *(quote(part, safe="") for part in parts)))


def image_source(image: str, server: str | None = None) -> dict[str, str]:
    """The `source` of an image by its name.

    64 hex digits are a local image's fingerprint; all else is a reference that the server pulls from an OCI registry
    unless it is here (`server`, else the registry that the reference or the server's configuration names).
    """
    if len(image) == 64 and not set(image) - set("0123456789abcdef"):
        return {"type": "image", "fingerprint": image}
    source = {"type": "image", "mode": "pull", "protocol": "oci", "alias": image}
    return {**source, "server": server} if server else source


def images_post(reference: str, server: str | None) -> Request:
    """Pull an image from a registry."""
    source = {"type": "image", "mode": "pull", "protocol": "oci", "alias": reference}
    return Request("POST", path("images"), body={"source": {**source, "server": server} if server else source})


class CreateOptions(TypedDict, total=False):
    """What a new instance can be given besides its image and name.

    `argv` replaces the image's arguments and keeps its entrypoint; `entrypoint` (text is split as a shell does)
    replaces that. `ephemeral` deletes the instance when it stops.
    """

    argv: Sequence[str]
    entrypoint: str | Sequence[str] | None
    environment: Mapping[str, str] | None
    cwd: str | None
    privileged: bool
    ephemeral: bool
    config: Mapping[str, str] | None
    devices: Mapping[str, Mapping[str, str]] | None
    profiles: Sequence[str] | None


def instances_post(source: Mapping[str, Any], name: str | None, **options: Unpack[CreateOptions]) -> Request:
    """Create an instance. Named options win over the same key in `config`."""
    keys = dict(options.get("config") or {})
    keys.update({f"environment.{key}": value for key, value in (options.get("environment") or {}).items()})
    if argv := options.get("argv"):
        keys["oci.cmd"] = shlex.join(argv)
    if (entrypoint := options.get("entrypoint")) is not None:
        keys["oci.entrypoint"] = entrypoint if isinstance(entrypoint, str) else shlex.join(entrypoint)
    if (cwd := options.get("cwd")) is not None:
        keys["oci.cwd"] = cwd
    if options.get("privileged"):
        keys["security.privileged"] = "true"
    body: dict[str, Any] = {
        "type": "container",
        "source": dict(source),
        "config": keys,
        "devices": dict(options.get("devices") or {}),
        "ephemeral": options.get("ephemeral", False),
    }
    if name:
        body["name"] = name
    if (profiles := options.get("profiles")) is not None:
        body["profiles"] = list(profiles)
    return Request("POST", path("instances"), body=body)


def state_put(
    name: str,
    action: str,
    *,
    timeout_s: float | None = None,
    force: bool = False,
    signal: str | None = None,
    kill: bool = False,
) -> Request:
    """Start, stop, restart, freeze or unfreeze; a stop without a timeout waits as long as it takes."""
    # LXD counts whole seconds, and takes -1 for "as long as it lasts".
    timeout = -1 if timeout_s is None else max(0, round(timeout_s))
    body: dict[str, Any] = {"action": action, "timeout": timeout, "force": force, "stateful": False}
    if signal is not None:
        body["signal"] = signal
    if kill:
        body["kill"] = True
    return Request("PUT", path("instances", name, "state"), body=body)


class ExecOptions(TypedDict, total=False):
    """How a command is run; without `user` and `group` as root (or the image's user, as the server decides)."""

    environment: Mapping[str, str] | None
    cwd: str | None
    user: int | None
    group: int | None


def exec_post(
    name: str,
    argv: Sequence[str],
    *,
    interactive: bool = False,
    width: int = 0,
    height: int = 0,
    **options: Unpack[ExecOptions],
) -> Request:
    """Run a command with its streams on websockets."""
    body = {
        "command": list(argv),
        "wait-for-websocket": True,
        "interactive": interactive,
        "environment": dict(options.get("environment") or {}),
        "width": width,
        "height": height,
        "record-output": False,
        "cwd": options.get("cwd") or "",
        "user": options.get("user"),
        "group": options.get("group"),
    }
    return Request("POST", path("instances", name, "exec"), body=body)


def window_resize(width: int, height: int) -> str:
    """Control message: the terminal has another size. The numbers are text on the wire."""
    return json.dumps({"command": "window-resize", "args": {"width": str(width), "height": str(height)}})


def send_signal(number: int) -> str:
    """Control message: send a signal to the command."""
    return json.dumps({"command": "signal", "signal": number})
