"""Asks LXD and lxdpy the same, and tells how their answers differ.

`{net}`, `{subnet}`, ... in a request (asked_of_both.py) stand for what cannot be the same on one host, and for it
in answers. An answer is flattened to fields, `metadata.state.status` or `operation.class`; a difference is a
field with the two values. Of what no two servers agree on (times, counters, the host's numbers) the type is compared.
"""

import difflib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

Json = dict[str, Any]
Body = object | Callable[["Server"], object]

_TIMEOUT_S = 60.0
_EVENTS_S = 20.0
_ENDED = 200
_STATES = ("Pending", "Running", "Success")
_NO_TIMES = {"0001-01-01T00:00:00Z": "no time", "1970-01-01T00:00:00Z": "time 0"}
# Values that differ from run to run: their type is compared, and of times whether they are set.
_VARY = re.compile(
    r"\.(id|pid|usage|usage_peak|processes|created_at|updated_at|last_used_at|uploaded_at|expires_at|started_at|size|used|total"
    r"|hwaddr|host_name|address)$"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$")
# The host's, or told by the daemon of itself.
_BY_TYPE = re.compile(r"metadata\.(environment|api_extensions|resources|space|inodes)\b")
# Lists of what each of them happens to have at the moment, and the host's parts: too deep for two to agree.
_DEPTH = ((re.compile(r"/1\.0/(operations|warnings)(\?|$)"), 0), (re.compile(r"/1\.0/resources"), 1))
_FOREIGN = re.compile(r"/1\.0/networks/(?!lo$|\{net\}$)")
_PROGRESS = re.compile(r"\.(progress|\w+_progress)$")
_VOLATILE = re.compile(r"config\.volatile\.")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where answers to a request differ."""

    request: str
    field: str
    lxd: str
    ours: str

    def __str__(self) -> str:
        return f"({self.request!r}, {self.field!r}, {self.lxd!r}, {self.ours!r})"


class Server:
    """One of the two. `words` are its values of the placeholders."""

    def __init__(self, socket: str, words: Mapping[str, str]) -> None:
        self.socket = socket
        self.words = dict(words)
        self.operations: list[str] = []
        """Those that requests began."""
        transport = httpx.HTTPTransport(uds=socket, limits=httpx.Limits(max_keepalive_connections=0))
        self.http = httpx.Client(transport=transport, base_url="http://server", timeout=_TIMEOUT_S)

    def ask(self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None) -> Json:
        """The answer's fields."""
        if callable(body):
            body = body(self)
        path = self._fill(path)
        if isinstance(body, bytes):
            response = self.http.request(method, path, content=body, headers=headers)
        else:
            content = None if body is None else self._fill(json.dumps(body))
            response = self.http.request(method, path, content=content, headers=headers)
        return self._fields(path, response)

    def metadata(self, path: str) -> Any:
        """What a GET answers."""
        answer = self.http.get(self._fill(path)).json()
        assert answer["type"] == "sync", answer
        return answer["metadata"]

    def wait(self, response: httpx.Response) -> Json:
        """How an operation ended."""
        path = response.json()["operation"].partition("?")[0]
        self.operations.append(path.rpartition("/")[2])
        ended: Json = self.http.get(f"{path}/wait?timeout=30").json()
        return ended.get("metadata") or {"status": "gone", "metadata": None}

    def _fill(self, text: str) -> str:
        for word, value in self.words.items():
            text = text.replace(f"{{{word}}}", value)
        return text

    def same(self, text: str) -> str:
        """The text with placeholders for what no two servers have in common."""
        for word, value in self.words.items():
            text = text.replace(value, f"{{{word}}}")
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "{uuid}", text)
        return re.sub(r"\b[0-9a-f]{64}\b", "{sha256}", text)

    def _fields(self, path: str, response: httpx.Response) -> Json:
        own = {name: response.headers[name] for name in response.headers if name.startswith("x-lxd-")}
        fields: Json = {"http": response.status_code, "ETag": "etag" in response.headers}
        fields["Location"] = self.same(response.headers.get("location", ""))
        fields["Content-Type"] = response.headers.get("content-type", "").partition(";")[0]
        fields["Content-Disposition"] = response.headers.get("content-disposition", "")
        fields |= {name.replace("x-lxd", "X-LXD"): value for name, value in own.items()}
        if modified := fields.get("X-LXD-modified"):
            fields["X-LXD-modified"] = re.sub(r"\d+", "N", modified)
        envelope: Json = {}
        if fields["Content-Type"] == "application/json" and response.content:
            envelope = response.json()
        if "status_code" not in envelope:
            return fields | {"kind": f"{response.status_code} raw", "length": len(response.content)}
        fields |= {key: envelope.get(key) for key in ("type", "status", "status_code", "error_code")}
        kind = envelope["type"]
        fields["kind"] = f"{response.status_code} {kind}"
        if kind == "async":
            ended = self.wait(response)
            fields["kind"] += f", {ended['status']}"
            told = ended.get("metadata") or {}
            # Progress is told as it comes, and LXD tells no error_code.
            kept = {key: one for key, one in told.items() if not _PROGRESS.search(f".{key}") and key != "error_code"}
            self._flatten(fields, "operation", ended | {"err": bool(ended["err"]), "metadata": kept or None})
        elif kind == "sync":
            depth = next((depth for pattern, depth in _DEPTH if pattern.match(path)), 99)
            self._flatten(fields, "metadata", envelope.get("metadata"), depth=depth)
        return fields

    def _flatten(self, fields: Json, name: str, value: object, depth: int = 99) -> None:
        by_type = bool(_BY_TYPE.search(name))
        if _VOLATILE.search(name):
            return
        if isinstance(value, dict):
            fields[name] = "{}"
            for key, one in value.items() if depth else ():
                self._flatten(fields, f"{name}.{self.same(key)}", one, depth - 1)
        elif isinstance(value, list) and (by_type or not depth):
            fields[name] = "[]"
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            texts = [self.same(one) for one in value]
            fields[name] = str(sorted(text for text in texts if not _FOREIGN.match(text)))
        elif isinstance(value, list):
            fields[name] = f"[{len(value)}]"
            for index, one in enumerate(value):
                self._flatten(fields, f"{name}[{index}]", one, depth - 1)
        elif isinstance(value, str) and _TIME.fullmatch(value):
            fields[name] = _NO_TIMES.get(value, "time")
        elif value is not None and (by_type or _VARY.search(name)):
            fields[name] = type(value).__name__
        else:
            fields[name] = self.same(value) if isinstance(value, str) else value


def differences(request: str, lxd: Json, ours: Json) -> Iterator[Difference]:
    """How two answers differ. Answers of different kinds are not compared further."""
    if lxd["kind"] != ours["kind"]:
        yield Difference(request, "kind", lxd["kind"], ours["kind"])
        return
    gone = object()
    for name in sorted(lxd.keys() | ours.keys()):
        theirs, own = lxd.get(name, gone), ours.get(name, gone)
        if theirs != own:
            above = name.rpartition(".")[0] if "." in name else ""
            if above and (above not in lxd) != (above not in ours):
                continue  # told of the object that holds it
            yield Difference(
                request, name, "absent" if theirs is gone else str(theirs), "absent" if own is gone else str(own)
            )


@contextmanager
def events(server: Server, until: str) -> Iterator[list[Json]]:
    """What a server tells meanwhile; leaving waits until the last operation's end was told, and the action `until`."""
    told: list[Json] = []
    url = "ws://server/1.0/events?type=lifecycle,operation"
    with unix_connect(server.socket, url, compression=None, close_timeout=1) as socket:
        thread = threading.Thread(target=_listen, args=(socket, told))
        thread.start()
        try:
            yield told
            deadline = time.monotonic() + _EVENTS_S
            while not (_told_of(server.operations[-1], told) and _told_action(until, told)):
                assert time.monotonic() < deadline, told[-3:]
                time.sleep(0.02)
        finally:
            socket.close()
            thread.join(_TIMEOUT_S)


def _listen(socket: ClientConnection, told: list[Json]) -> None:
    try:
        for message in socket:
            told.append(json.loads(message))
    except ConnectionClosed:
        return


def _told_action(action: str, told: list[Json]) -> bool:
    return any(event["metadata"].get("action") == action for event in told)


def _told_of(operation: str, told: list[Json]) -> bool:
    return any(
        event["metadata"].get("id") == operation and event["metadata"]["status_code"] >= _ENDED for event in told
    )


def lifecycle(server: Server, told: list[Json]) -> list[str]:
    """What happened: action, what it happened to, with which details, and the message's keys.

    Not whose doing it was: LXD tells that of some only.
    """
    return [
        f"{of['action']} {server.same(of['source'])} {_sorted(of.get('context'))} {keys}"
        for of, keys in _of(told, "lifecycle")
    ]


def progress(server: Server, told: list[Json]) -> list[str]:
    """The states of the operations that requests began, in the order of the requests.

    LXD sends events side by side: Running may come before Pending, and a command's result after its end.
    """
    lines: dict[str, set[tuple[int, str]]] = {operation: set() for operation in server.operations}
    for of, keys in _of(told, "operation"):
        if of["id"] in lines:
            line = f"{of['description']} {_sorted(of['resources'])} {of['status']} {keys}"
            lines[of["id"]].add((_STATES.index(of["status"]), line))
    return [line for states in lines.values() for _, line in sorted(states)]


def sequence_differences(name: str, lxd: list[str], ours: list[str]) -> Iterator[Difference]:
    """Where two sequences of lines part: what stands in the place of what."""
    for what, start, end, from_, to in difflib.SequenceMatcher(None, lxd, ours, autojunk=False).get_opcodes():
        if what != "equal":
            for theirs, own in zip_longest(lxd[start:end], ours[from_:to], fillvalue="absent"):
                yield Difference("events", name, theirs, own)


def _of(told: list[Json], kind: str) -> Iterator[tuple[Json, str]]:
    for event in told:
        if event["type"] == kind:
            yield event["metadata"], " ".join(sorted(event))


def _sorted(what: Json | None) -> list[str]:
    return sorted(what or {})
