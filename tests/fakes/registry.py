"""A registry that misbehaves on request: real HTTP on a loopback port, from a thread of its own.

    with FaultyRegistry() as registry:
        image = registry.add_image("org/app", "1", layers=[gzipped_tar])
        registry.fault("/v2/org/app/blobs/", Cut(after=1000), Pass(), Answer(503))
        ... pull f"{registry.host}/org/app:1" ...
        assert [request.status for request in registry.requests] == [...]

A fault script belongs to the requests whose path its regular expression is found in: one step for each request, then
business as usual. `forever` repeats the last step. Every request is logged with the headers it came with.
"""

import asyncio
import base64
import contextlib
import json
import re
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from lxdpy.oci import media_types
from lxdpy.oci.digest import Digest

CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Pass:
    """Business as usual."""


@dataclass(frozen=True, slots=True)
class Answer:
    """This, in place of the true answer; a `length` other than the body's makes Content-Length lie."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The true answer, cut off `after` bytes of its body (None: before the answer); with a RST or without."""

    after: int | None = None
    reset: bool = True


@dataclass(frozen=True, slots=True)
class Stall:
    """The true answer, silent `after` bytes of its body (None: before the answer), until the peer hangs up."""

    after: int | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """To another place; `{target}` in it is the request's path and query, `{name}` the path's last part.

    Every registry serves its blobs without authentication below /cdn/: `Redirect(f"{cdn.url}/cdn/{{name}}?signed")`.
    """

    location: str
    status: int = 307


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """The whole blob, whatever range was asked for."""


Fault = Pass | Answer | Cut | Stall | Redirect | IgnoreRange


@dataclass(slots=True)
class Request:
    """One request as it came in, names of headers in lower case; `status` is 0 when nothing was answered."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def path(self) -> str:
        """The path without the query."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values."""
        return parse_qs(urlsplit(self.target).query)


@dataclass(frozen=True, slots=True)
class FakeImage:
    """What `add_image` made."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        """The manifest's."""
        return Digest.of(self.manifest)


@dataclass(slots=True)
class _Script:
    pattern: re.Pattern[str]
    method: str
    steps: deque[Fault]
    forever: bool

    def next(self) -> Fault:
        return self.steps[0] if self.forever and len(self.steps) == 1 else self.steps.popleft()


class FaultyRegistry:
    """A registry on 127.0.0.1, as a context manager.

    auth       "", "basic", "bearer": what is asked of every request below /v2/
    users      who may log in; without any, tokens are given to everybody
    tls        speak https
    """

    def __init__(
        self,
        *,
        auth: str = "",
        users: Mapping[str, str] | None = None,
        identity_tokens: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.auth = auth
        self.users = dict(users or {})
        self.identity_tokens = set(identity_tokens)
        self.requests: list[Request] = []
        self.tokens_given = 0
        self.expires_in: int | None = 300
        self.realm = ""
        """Where tokens come from; its own /token unless set."""
        self._tls = tls
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._scripts: list[_Script] = []
        self._tokens: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="faulty-registry")
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    # ------------------------------------------------------------ the test's side

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        stop = self._stop
        assert stop is not None
        self._loop.call_soon_threadsafe(stop.set)
        self._thread.join()
        self._loop.close()

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        address, port = self._socket.getsockname()
        return f"{address}:{port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def add_blob(self, data: bytes, digest: Digest | None = None) -> Digest:
        """Serve `data` as the blob of its digest, or of another."""
        digest = digest or Digest.of(data)
        self._blobs[str(digest)] = data
        return digest

    def add_manifest(
        self, repository: str, tag: str | None, data: bytes, media_type: str, *, digest: Digest | None = None
    ) -> Digest:
        """Serve `data` by its digest (or by another one), and by `tag` if there is one."""
        digest = digest or Digest.of(data)
        self._manifests[repository, str(digest)] = data, media_type
        if tag is not None:
            self._manifests[repository, tag] = data, media_type
        return digest

    def add_image(
        self,
        repository: str,
        tag: str | None,
        *,
        layers: Sequence[bytes] = (),
        diff_ids: Sequence[Digest] | None = None,
        architecture: str = "amd64",
        config: Mapping[str, object] | None = None,
        layer_type: str = f"{media_types.OCI_LAYER}+gzip",
    ) -> FakeImage:
        """Serve an image of these blobs; `diff_ids` are the blobs' own digests unless given."""
        document = {
            "os": "linux",
            "architecture": architecture,
            "config": dict(config or {"Cmd": ["/bin/sh"]}),
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(diff_id) for diff_id in diff_ids or [Digest.of(layer) for layer in layers]],
            },
        }
        config_bytes = json.dumps(document).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_MANIFEST,
                "config": descriptor(config_bytes, media_types.OCI_CONFIG),
                "layers": [descriptor(layer, layer_type) for layer in layers],
            }
        ).encode()
        for blob in (config_bytes, *layers):
            self.add_blob(blob)
        self.add_manifest(repository, tag, manifest, media_types.OCI_MANIFEST)
        return FakeImage(manifest, config_bytes, tuple(layers))

    def add_index(self, repository: str, tag: str | None, images: Mapping[str, FakeImage]) -> bytes:
        """Serve an index of `images` by platform (`linux/arm64/v8`)."""
        entries = []
        for platform, image in images.items():
            os, architecture, *variant = platform.split("/")
            described = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
            entries.append({**descriptor(image.manifest, media_types.OCI_MANIFEST), "platform": described})
        index = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}).encode()
        self.add_manifest(repository, tag, index, media_types.OCI_INDEX)
        return index

    def fault(self, pattern: str, *steps: Fault, method: str = "GET", forever: bool = False) -> None:
        """Script the next requests whose path has `pattern` in it."""
        with self._lock:
            self._scripts.append(_Script(re.compile(pattern), method, deque(steps), forever))

    def expire_tokens(self) -> None:
        """No token given so far is good any more."""
        self._tokens.clear()

    def requested(self, pattern: str = "", method: str = "GET") -> list[Request]:
        """The requests so far whose path has `pattern` in it."""
        return [r for r in list(self.requests) if r.method == method and re.search(pattern, r.path)]

    # ---------------------------------------------------------- the server's side

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
                    while await self._exchange(reader, writer):
                        pass
            except asyncio.CancelledError:
                pass
            finally:
                tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(connected, sock=self._socket, ssl=self._tls)
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False when the connection is at its end."""
        first = await reader.read(1)
        if not first.isalpha():
            # The end, or a TLS handshake that a plain server of Go answers like this.
            if first:
                writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")
                await writer.drain()
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines) if name}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, target, headers, body)
        with self._lock:
            self.requests.append(request)
            fault = self._fault(request)
        if isinstance(fault, Cut | Stall) and fault.after is None:
            return await self._break(fault, reader, writer)
        answer = self._answer(request, fault)
        request.status = answer.status
        length = len(answer.body) if answer.length is None else answer.length
        text = f"HTTP/1.1 {answer.status} Status\r\nContent-Length: {length}\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        writer.write(f"{text}\r\n".encode("latin-1"))
        content = b"" if method == "HEAD" else answer.body
        if isinstance(fault, Cut | Stall):
            content = content[: fault.after]
        for start in range(0, len(content), CHUNK):
            writer.write(content[start : start + CHUNK])
            await writer.drain()
        if isinstance(fault, Cut | Stall):
            await writer.drain()
            return await self._break(fault, reader, writer)
        return method == "HEAD" or length == len(answer.body)

    async def _break(self, fault: Cut | Stall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if isinstance(fault, Stall):
            await reader.read(1)
        elif fault.reset:
            # What was written must arrive before the RST, or the peer's kernel throws it away.
            await asyncio.sleep(0.05)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.close()
            await writer.wait_closed()
        return False

    def _fault(self, request: Request) -> Fault:
        for script in self._scripts:
            if script.steps and script.method == request.method and script.pattern.search(request.path):
                return script.next()
        return Pass()

    def _answer(self, request: Request, fault: Fault) -> Answer:
        if isinstance(fault, Answer):
            return fault
        if isinstance(fault, Redirect):
            location = fault.location.replace("{target}", request.target)
            return Answer(fault.status, {"Location": location.replace("{name}", request.path.rpartition("/")[2])})
        if request.path == "/token":
            return self._token(request)
        if request.path.startswith("/cdn/"):
            return self._blob(request, request.path.removeprefix("/cdn/"), fault)
        match = re.fullmatch(r"/v2/(?:(.+)/(manifests|blobs)/([^/]+))?", request.path)
        if match is None:
            return Answer(404, {"Content-Type": "text/html"}, b"<html>404</html>")
        repository, kind, name = match.groups()
        if (refusal := self._refusal(request, repository)) is not None:
            return refusal
        if kind == "blobs":
            return self._blob(request, name, fault)
        if kind is None:
            return Answer(200, {}, b"{}")
        if (repository, name) not in self._manifests:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        data, media_type = self._manifests[repository, name]
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": str(Digest.of(data))}, data)

    def _blob(self, request: Request, digest: str, fault: Fault) -> Answer:
        data = self._blobs.get(digest)
        if data is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", request.headers.get("range", ""))
        if match is None or isinstance(fault, IgnoreRange):
            return Answer(200, headers, data)
        start, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
        if start >= len(data):
            return Answer(416, {"Content-Range": f"bytes */{len(data)}"})
        return Answer(206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}, data[start : end + 1])

    def _refusal(self, request: Request, repository: str | None) -> Answer | None:
        """The 401 that is due, if one is."""
        given = request.headers.get("authorization", "")
        scope = f"repository:{repository}:pull"
        if self.auth == "basic" and self._user(given) is None:
            return error(401, "UNAUTHORIZED", "authentication required", 'Basic realm="faulty, registry"')
        if self.auth == "bearer":
            scopes = self._tokens.get(given.removeprefix("Bearer "))
            challenge = f'Bearer realm="{self.realm or self.url + "/token"}",service="faulty, registry"'
            if repository is not None:
                challenge += f',scope="{scope}"'
            if scopes is None:
                return error(401, "UNAUTHORIZED", "authentication required", challenge)
            if repository is not None and scope not in scopes:
                challenge += ',error="insufficient_scope"'
                return error(401, "DENIED", "requested access to the resource is denied", challenge)
        return None

    def _token(self, request: Request) -> Answer:
        if request.method == "POST":
            form = dict(parse_qsl(request.body.decode()))
            if not self.identity_tokens:
                return Answer(404)
            if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in self.identity_tokens:
                return error(401, "UNAUTHORIZED", "bad identity token")
            return self._give(form.get("scope", "").split(), "access_token")
        given = request.headers.get("authorization", "")
        if given and self._user(given) is None:
            return error(401, "UNAUTHORIZED", "incorrect username or password")
        allowed = not self.users or bool(given)
        return self._give(request.query.get("scope", []) if allowed else [], "token")

    def _give(self, scopes: Sequence[str], key: str) -> Answer:
        self.tokens_given += 1
        token = f"token-{self.tokens_given}"
        self._tokens[token] = frozenset(scopes)
        expiry = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return Answer(200, {"Content-Type": "application/json"}, json.dumps({key: token, **expiry}).encode())

    def _user(self, authorization: str) -> str | None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if self.users.get(user) == password else None


def descriptor(data: bytes, media_type: str, **changes: object) -> dict[str, object]:
    """The descriptor of `data` as a document holds it."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **changes}


def error(status: int, code: str, message: str, challenge: str = "") -> Answer:
    """A registry's error answer."""
    headers = {"Content-Type": "application/json", **({"WWW-Authenticate": challenge} if challenge else {})}
    return Answer(status, headers, json.dumps({"errors": [{"code": code, "message": message}]}).encode())
