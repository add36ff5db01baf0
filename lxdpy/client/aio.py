"""The asynchronous client: all of the client's logic. `lxdpy.client.sync` gives the same to blocking code."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Unpack

from websockets.exceptions import ConnectionClosed

from lxdpy.client import requests
from lxdpy.client.endpoint import socket_path
from lxdpy.client.errors import ConnectionFailed, NotFound, WaitTimeout
from lxdpy.client.operation import WAIT_SLICE_S, AsyncOperation, OnProgress
from lxdpy.client.process import AsyncProcess
from lxdpy.client.records import (
    Ancestor,
    Event,
    ExecResult,
    Exit,
    ImageRecord,
    InstanceRecord,
    InstanceState,
    Json,
    OperationRecord,
    RunResult,
)
from lxdpy.client.requests import CreateOptions, ExecOptions, Request, path
from lxdpy.client.stdin import Stdin
from lxdpy.client.transport import Transport


class AsyncClient:
    """One daemon on its unix socket (default: `endpoint.socket_path()`). Use it within one event loop."""

    def __init__(self, socket: str | None = None, *, timeout: float = 60.0, project: str | None = None) -> None:
        self._transport = Transport(socket or socket_path(), timeout_s=timeout, project=project)
        self.instances = AsyncInstances(self)
        self.images = AsyncImages(self)
        self.operations = AsyncOperations(self)

    @classmethod
    def from_env(cls) -> "AsyncClient":
        """The client that LXDPY_SOCKET, LXD_SOCKET or LXD_DIR point at."""
        return cls()

    @property
    def socket(self) -> str:
        """Path of the daemon's socket."""
        return self._transport.socket

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Any:
        """Send any request; the answer's metadata (of background work: the operation object). Raises LXDError."""
        return (await self._transport.send(Request(method, path, params or {}, body))).metadata

    async def submit(self, method: str, path: str, *, body: object = None) -> AsyncOperation:
        """Send any request whose work goes on in the background, and do not wait for it."""
        return await self._submit(Request(method, path, body=body))

    async def info(self) -> Json:
        """The server's own description (GET /1.0)."""
        info: Json = await self.request("GET", requests.API)
        return info

    async def events(self, types: Sequence[str] = ()) -> AsyncGenerator[Event, None]:
        """Events from now on, of `types` (operation, lifecycle, logging) or all. Raises ConnectionFailed at its end."""
        socket = await self._transport.websocket(path("events"), {"type": ",".join(types)} if types else {})
        try:
            while True:
                yield Event.parse(json.loads(await socket.recv()))
        except ConnectionClosed as exc:
            raise ConnectionFailed(f"Event stream of {self.socket} ended: {exc}") from exc
        finally:
            await socket.close()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _submit(self, request: Request) -> AsyncOperation:
        answer = await self._transport.send(request)
        return AsyncOperation(self._transport, OperationRecord.parse(answer.metadata))


class AsyncOperations:
    """`client.operations`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> list[AsyncOperation]:
        """Running operations, and those that ended seconds ago; oldest first."""
        groups = await self._client.request("GET", path("operations"), params={"recursion": "1"})
        records = [OperationRecord.parse(raw) for group in (groups or {}).values() for raw in group]
        records.sort(key=lambda record: record.created_at)
        return [AsyncOperation(self._client._transport, record) for record in records]

    async def get(self, id: str) -> AsyncOperation:
        """One operation. Raises NotFound."""
        raw = await self._client.request("GET", path("operations", id))
        return AsyncOperation(self._client._transport, OperationRecord.parse(raw))


class AsyncImages:
    """`client.images`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> list["AsyncImage"]:
        """All local images."""
        raws = await self._client.request("GET", path("images"), params={"recursion": "1"})
        return [AsyncImage(self._client, ImageRecord.parse(raw)) for raw in raws]

    async def get(self, name: str) -> "AsyncImage":
        """A local image by alias, fingerprint or the beginning of one. Raises NotFound."""
        fingerprint = name
        with suppress(NotFound):
            alias = await self._client.request("GET", path("images", "aliases", name))
            fingerprint = alias["target"]
        raw = await self._client.request("GET", path("images", fingerprint))
        return AsyncImage(self._client, ImageRecord.parse(raw))

    async def begin_pull(self, reference: str, *, server: str | None = None) -> AsyncOperation:
        """Pull in the background; the final metadata has `fingerprint`. Raises NotFound for an unknown image."""
        return await self._client._submit(requests.images_post(reference, server))

    async def pull(
        self,
        reference: str,
        *,
        server: str | None = None,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> "AsyncImage":
        """Pull an image (`alpine:3.20`, `ghcr.io/org/app@sha256:...`) and wait. What is here already is not loaded."""
        operation = await self.begin_pull(reference, server=server)
        record = await operation.wait(timeout_s, on_progress)
        raw = await self._client.request("GET", path("images", record.metadata["fingerprint"]))
        return AsyncImage(self._client, ImageRecord.parse(raw))


class AsyncImage:
    """A local image; `record` is as of the last refresh."""

    def __init__(self, client: AsyncClient, record: ImageRecord) -> None:
        self._client = client
        self.record = record

    @property
    def fingerprint(self) -> str:
        """Its id: 64 hex digits."""
        return self.record.fingerprint

    async def refresh(self) -> ImageRecord:
        """Ask again. Raises NotFound if it is gone."""
        self.record = ImageRecord.parse(await self._client.request("GET", path("images", self.fingerprint)))
        return self.record

    async def ancestry(self) -> list[Ancestor]:
        """The layers it stands on, newest first."""
        raws = await self._client.request("GET", path("images", self.fingerprint, "ancestry"))
        return [Ancestor.parse(raw) for raw in raws]

    async def delete(self, *, timeout_s: float | None = None) -> None:
        """Delete it; layers that other images have stay."""
        await (await self._client.submit("DELETE", path("images", self.fingerprint))).wait(timeout_s)


class AsyncInstances:
    """`client.instances`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> list["AsyncInstance"]:
        """All instances, each `record` with its state."""
        raws = await self._client.request("GET", path("instances"), params={"recursion": "2"})
        return [AsyncInstance(self._client, InstanceRecord.parse(raw)) for raw in raws]

    async def get(self, name: str) -> "AsyncInstance":
        """One instance. Raises NotFound."""
        raw = await self._client.request("GET", path("instances", name))
        return AsyncInstance(self._client, InstanceRecord.parse(raw))

    async def begin_create(
        self,
        image: "ImageSource",
        name: str | None = None,
        *,
        server: str | None = None,
        **options: Unpack[CreateOptions],
    ) -> AsyncOperation:
        """As `create`, in the background: `operation.record.resource("instances")` is the name."""
        if isinstance(image, str) and image.startswith("local:"):
            image = await self._client.images.get(image.removeprefix("local:"))
        if isinstance(image, AsyncImage):
            source: Mapping[str, Any] = {"type": "image", "fingerprint": image.fingerprint}
        elif isinstance(image, str):
            source = requests.image_source(image, server)
        else:
            source = image
        return await self._client._submit(requests.instances_post(source, name, **options))

    async def create(
        self,
        image: "ImageSource",
        name: str | None = None,
        *,
        server: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[CreateOptions],
    ) -> "AsyncInstance":
        """Create a stopped instance; without a name the server picks one. For the options see CreateOptions.

        `image`: a reference to pull if it is not here (`alpine:3.20`), `local:` and an alias or the beginning of a
        fingerprint, a whole fingerprint, an image, or an LXD `source` object. Raises NotFound for an unknown image,
        OperationFailed if pull or creation fails.
        """
        operation = await self.begin_create(image, name, server=server, **options)
        record = await operation.wait(on_progress=on_progress)
        return await self.get(record.resource("instances", "containers") or name or "")

    async def run(
        self,
        image: "ImageSource",
        name: str | None = None,
        *,
        server: str | None = None,
        keep: bool = False,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[CreateOptions],
    ) -> RunResult:
        """Create, start, wait until it stops, read its output, and delete it unless `keep`.

        Needs lxdpy's wait extension. Raises WaitTimeout if it runs longer than `timeout_s`.
        """
        instance = await self.create(image, name, server=server, on_progress=on_progress, **options)
        try:
            await instance.start()
            ended = await instance.wait(timeout_s)
            return RunResult(ended, await instance.logs())
        finally:
            if not keep:
                await instance.delete(force=True)


class AsyncInstance:
    """An instance; `record` is as of the last refresh."""

    def __init__(self, client: AsyncClient, record: InstanceRecord) -> None:
        self._client = client
        self.record = record

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def status(self) -> str:
        """Running, Stopped, Frozen ... as of the last refresh."""
        return self.record.status

    async def info(self) -> Json:
        """Everything the server says of it: configuration, state, snapshots."""
        params = {"recursion": "1"}
        info: Json = await self._client.request("GET", path("instances", self.name), params=params)
        return info

    async def refresh(self) -> InstanceRecord:
        """Ask again. Raises NotFound if it is gone."""
        self.record = InstanceRecord.parse(await self._client.request("GET", path("instances", self.name)))
        return self.record

    async def state(self) -> InstanceState:
        """What it does at this moment."""
        return InstanceState.parse(await self._client.request("GET", path("instances", self.name, "state")))

    async def start(self) -> None:
        """Start it. Raises OperationFailed if it runs already."""
        await self._change("start")

    async def stop(
        self,
        *,
        force: bool = False,
        timeout_s: float | None = None,
        signal: str | None = None,
        kill: bool = False,
    ) -> None:
        """Ask its init to stop (with `signal`, an lxdpy extension), or kill it with `force`.

        When it has not stopped after `timeout_s`, it is killed with `kill` (an lxdpy extension), else raises
        OperationFailed.
        """
        await self._change("stop", force=force, timeout_s=timeout_s, signal=signal, kill=kill)

    async def shutdown(self, timeout_s: float | None = None) -> None:
        """Stop it cleanly."""
        await self.stop(timeout_s=timeout_s)

    async def restart(self, *, force: bool = False, timeout_s: float | None = None, kill: bool = False) -> None:
        """Stop, as `stop` does, and start it."""
        await self._change("restart", force=force, timeout_s=timeout_s, kill=kill)

    async def freeze(self) -> None:
        """Hold all its processes."""
        await self._change("freeze")

    async def unfreeze(self) -> None:
        """Let its processes go on."""
        await self._change("unfreeze")

    async def delete(self, *, force: bool = False) -> None:
        """Delete it; `force` stops a running one first. Raises LXDError 400 if it runs."""
        if force and (await self.state()).status not in ("Stopped", "Error"):
            await self.stop(force=True)
            if self.record.ephemeral:
                return
        await (await self._client.submit("DELETE", path("instances", self.name))).wait()

    async def exec(
        self,
        argv: Sequence[str],
        *,
        interactive: bool = False,
        width: int = 0,
        height: int = 0,
        **options: Unpack[ExecOptions],
    ) -> AsyncProcess:
        """Run a command, with live streams; use the result in `async with`. `interactive` gives it a terminal."""
        request = requests.exec_post(self.name, argv, interactive=interactive, width=width, height=height, **options)
        operation = await self._client._submit(request)
        return await AsyncProcess.connect(self._client._transport, operation, interactive=interactive)

    async def execute(
        self, argv: Sequence[str], *, stdin: Stdin | None = None, **options: Unpack[ExecOptions]
    ) -> ExecResult:
        """Run a command to its end and collect its output; 127 = not found, 126 = not executable."""
        async with await self.exec(argv, **options) as process:
            return await process.communicate(stdin)

    async def logs(self, *, tail: int | None = None) -> bytes:
        """What it wrote to its console, or the last `tail` lines."""
        return b"".join([piece async for piece in self._console({}, tail)])

    def follow(self, *, tail: int | None = None) -> AsyncIterator[bytes]:
        """The console from its beginning (or `tail` lines back) until the instance stops."""
        return self._console({"follow": "true"}, tail)

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Wait until it is stopped. An extension of lxdpy. Raises WaitTimeout if it still runs then."""
        request = Request("GET", path("instances", self.name, "wait"), {"timeout": f"{WAIT_SLICE_S:.0f}"})
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    answer = await self._client._transport.send(request, extra_s=WAIT_SLICE_S)
                    if (ended := Exit.parse(answer.metadata)).status == "Stopped":
                        return ended
        except TimeoutError as exc:
            if isinstance(exc, WaitTimeout):
                raise
            raise WaitTimeout(f'Instance "{self.name}" has not stopped within {timeout_s} s') from exc

    async def _console(self, params: Mapping[str, str], tail: int | None) -> AsyncGenerator[bytes, None]:
        params = params if tail is None else {**params, "tail": str(tail)}
        async with self._client._transport.stream(
            Request("GET", path("instances", self.name, "console"), params)
        ) as body:
            async for piece in body:
                yield piece

    async def _change(
        self,
        action: str,
        *,
        force: bool = False,
        timeout_s: float | None = None,
        signal: str | None = None,
        kill: bool = False,
    ) -> None:
        request = requests.state_put(self.name, action, timeout_s=timeout_s, force=force, signal=signal, kill=kill)
        await (await self._client._submit(request)).wait()


ImageSource = str | AsyncImage | Mapping[str, Any]
