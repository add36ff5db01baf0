"""A small LXD on a unix socket, speaking the recorded protocol: envelope, operations, events, exec, images.

It keeps its own connections, because LXD's way to end a stream (an empty TEXT frame, then TCP gone without a close
frame) is what clients get wrong. Commands of exec are run on this host. Use it with `serve()`:

    with serve(tmp_path / "unix.socket") as server:
        server.requests          # (method, path with query, body) of all that came

Images that exist: any reference but those with "missing" in it; a pull of "broken" fails as an operation. An instance
runs until it is stopped; one whose `oci.cmd` is `exit N` ends by itself after writing "bye" to its console. One whose
`oci.cmd` is `missing` does not start.
"""

import asyncio
import contextlib
import json
import os
import pty
import queue
import secrets
import shlex
import signal
import termios
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.frames import Opcode
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol

LAYERS = ({"digest": f"sha256:{'a' * 64}", "size": 3000}, {"digest": f"sha256:{'b' * 64}", "size": 500})
FINGERPRINT = "f" * 64
NOW = "2026-01-02T03:04:05.000000006Z"
STATUS = {103: "Running", 200: "Success", 400: "Failure", 401: "Cancelled", 102: "Stopped", 110: "Frozen"}


class Refused(Exception):
    """An error answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Operation:
    """One operation and those who wait for it."""

    def __init__(self, server: "FakeLxd", kind: str, resources: dict[str, list[str]], may_cancel: bool) -> None:
        self.server = server
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.raw: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "class": kind,
            "description": "Testing",
            "created_at": NOW,
            "updated_at": NOW,
            "status": "Running",
            "status_code": 103,
            "resources": resources,
            "metadata": None,
            "may_cancel": may_cancel,
            "err": "",
            "location": "none",
        }

    def note(self, **values: object) -> None:
        self.raw["metadata"] = {**(self.raw["metadata"] or {}), **values}
        self.server.publish("operation", self.raw)

    def finish(self, code: int, err: str = "", **values: object) -> None:
        self.raw |= {"status_code": code, "status": STATUS[code], "err": err}
        self.note(**values)
        self.ended.set()


class WebSocket:
    """Frames over a connection that was upgraded."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._protocol = ServerProtocol(max_size=None)
        self._reader, self._writer = reader, writer
        self._protocol.receive_data(head)
        (request,) = self._protocol.events_received()
        assert isinstance(request, HandshakeRequest)
        self._protocol.send_response(self._protocol.accept(request))
        self._flush()

    def text(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        self._flush()

    def binary(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        self._flush()

    def ping(self) -> None:
        self._protocol.send_ping(b"keepalive")
        self._flush()

    def drop(self) -> None:
        """As LXD: no close frame."""
        self._writer.close()

    async def frames(self) -> Any:
        """(is text, payload) until the client closes."""
        while data := await self._reader.read(65536):
            self._protocol.receive_data(data)
            self._flush()
            for frame in self._protocol.events_received():
                if frame.opcode is Opcode.CLOSE:
                    return
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                    yield frame.opcode is Opcode.TEXT, bytes(frame.data)

    def _flush(self) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(self._protocol.data_to_send()))

    async def drain(self) -> None:
        await self._writer.drain()


class FakeLxd:
    """All state; one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.requests: list[tuple[str, str, Any]] = []
        self.instances: dict[str, dict[str, Any]] = {}
        self.consoles: dict[str, bytes] = {}
        self.exits: dict[str, int | None] = {}
        self.changed = asyncio.Event()
        self.images: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, Operation] = {}
        self.listeners: list[WebSocket] = []
        self.fds: dict[str, tuple[str, asyncio.Future[WebSocket]]] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", "/1.0", self.get_server),
            ("GET", "/1.0/operations", self.get_operations),
            ("GET", "/1.0/operations/*", lambda r, id: self.operation(id).raw),
            ("DELETE", "/1.0/operations/*", self.cancel),
            ("GET", "/1.0/operations/*/wait", self.wait_operation),
            ("GET", "/1.0/images", lambda r: list(self.images.values())),
            ("POST", "/1.0/images", self.post_image),
            ("GET", "/1.0/images/aliases/*", self.get_alias),
            ("GET", "/1.0/images/*", lambda r, fp: self.image(fp)),
            ("DELETE", "/1.0/images/*", self.delete_image),
            ("GET", "/1.0/images/*/ancestry", self.get_ancestry),
            ("GET", "/1.0/instances", self.get_instances),
            ("POST", "/1.0/instances", self.post_instance),
            ("GET", "/1.0/instances/*", lambda r, name: self.instance(name)),
            ("DELETE", "/1.0/instances/*", self.delete_instance),
            ("GET", "/1.0/instances/*/state", lambda r, name: self.state(name)),
            ("PUT", "/1.0/instances/*/state", self.put_state),
            ("GET", "/1.0/instances/*/wait", self.wait_instance),
            ("GET", "/1.0/instances/*/console", self.console),
            ("POST", "/1.0/instances/*/exec", self.exec),
        ]

    # Connections

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                method, target, _ = lines[0].split(" ")
                headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if headers.get("upgrade", "").lower() == "websocket":
                    await self.upgrade(target, head, reader, writer)
                    return
                await self.answer(method, target, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def answer(self, method: str, target: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        request = {"json": json.loads(body) if body else None, "query": parse_qs(urlsplit(target).query)}
        self.requests.append((method, target, request["json"]))
        envelope: dict[str, Any] = {"type": "sync", "status": "Success", "status_code": 200, "operation": ""}
        envelope |= {"error_code": 0, "error": "", "metadata": {}}
        code = 200
        try:
            result = self.route(method, urlsplit(target).path)(request)
            result = await result if asyncio.iscoroutine(result) else result
            if hasattr(result, "__aiter__"):
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                async for piece in result:
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
                return
            if isinstance(result, Operation):
                code, url = 202, f"/1.0/operations/{result.raw['id']}"
                envelope |= {"type": "async", "status": "Operation created", "status_code": 100, "operation": url}
                result = result.raw
            envelope["metadata"] = result
        except Refused as exc:
            code = exc.code
            envelope |= {"type": "error", "status": "", "status_code": 0, "error_code": code, "error": str(exc)}
            envelope["metadata"] = None
        data = json.dumps(envelope).encode() + b"\n"
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (code, len(data))
        )
        writer.write(data)
        await writer.drain()

    def route(self, method: str, path: str) -> Callable[[Any], Any]:
        parts = path.rstrip("/").split("/")
        for verb, pattern, handler in self.routes:
            shape = pattern.split("/")
            if verb != method or len(shape) != len(parts):
                continue
            if all(want in ("*", got) for want, got in zip(shape, parts, strict=True)):
                names = [unquote(got) for want, got in zip(shape, parts, strict=True) if want == "*"]
                return lambda request, handler=handler, names=names: handler(request, *names)
        raise Refused(404, "not found")

    async def upgrade(
        self, target: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        query = parse_qs(urlsplit(target).query)
        if urlsplit(target).path == "/1.0/events":
            websocket = WebSocket(head, reader, writer)
            websocket.ping()
            self.listeners.append(websocket)
            try:
                async for _ in websocket.frames():
                    pass
            finally:
                self.listeners.remove(websocket)
            return
        entry = self.fds.pop(query["secret"][0], None)
        if entry is None:
            data = b'{"type":"error","error":"permission denied","error_code":403,"metadata":null}'
            writer.write(b"HTTP/1.1 403 X\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data))
            return
        websocket = WebSocket(head, reader, writer)
        websocket.ping()
        entry[1].set_result(websocket)
        # The exec job owns the connection now, and drops it.
        await writer.wait_closed()

    def publish(self, kind: str, metadata: dict[str, Any]) -> None:
        event = {"type": kind, "timestamp": NOW, "metadata": metadata, "location": "none", "project": "default"}
        for listener in self.listeners:
            listener.text(json.dumps(event))

    def drop_listeners(self) -> None:
        """Break all event streams; may be called from any thread."""
        for listener in self.listeners:
            self.loop.call_soon_threadsafe(listener.drop)

    def spawn(
        self, kind: str, job: Callable[[Operation], Any], *, may_cancel: bool = False, **resources: str
    ) -> Operation:
        urls = {key: [f"/1.0/{key}/{value}"] for key, value in resources.items()}
        operation = Operation(self, kind, urls, may_cancel)
        self.operations[operation.raw["id"]] = operation

        async def run() -> None:
            await asyncio.sleep(0)
            try:
                await job(operation)
                if not operation.ended.is_set():
                    operation.finish(200)
            except Refused as exc:
                operation.finish(400, str(exc), error_code=exc.code)
            except asyncio.CancelledError:
                operation.finish(401, "Operation cancelled")

        operation.task = asyncio.create_task(run())
        self.tasks.add(operation.task)
        operation.task.add_done_callback(self.tasks.discard)
        return operation

    # Server and operations

    def get_server(self, request: Any) -> Any:
        return {"api_version": "1.0", "environment": {"server": "lxd", "server_version": "5.0.2"}}

    def operation(self, id: str) -> Operation:
        if id not in self.operations:
            raise Refused(404, "Operation not found")
        return self.operations[id]

    def get_operations(self, request: Any) -> Any:
        groups: dict[str, list[Any]] = {}
        for operation in self.operations.values():
            groups.setdefault(operation.raw["status"].lower(), []).append(operation.raw)
        return groups

    def cancel(self, request: Any, id: str) -> Any:
        operation = self.operation(id)
        if not operation.raw["may_cancel"] or operation.task is None:
            raise Refused(400, "This operation can't be cancelled")
        operation.task.cancel()
        return {}

    async def wait_operation(self, request: Any, id: str) -> Any:
        operation = self.operation(id)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(operation.ended.wait(), float(request["query"]["timeout"][0]))
        return operation.raw

    # Images

    def image(self, name: str) -> dict[str, Any]:
        for fingerprint, image in self.images.items():
            if fingerprint.startswith(name):
                return image
        raise Refused(404, "Image not found")

    def get_alias(self, request: Any, name: str) -> Any:
        for fingerprint, image in self.images.items():
            if any(alias["name"] == name for alias in image["aliases"]):
                return {"name": name, "target": fingerprint}
        raise Refused(404, "Image alias not found")

    def check_reference(self, source: dict[str, Any]) -> None:
        if "missing" in source.get("alias", ""):
            raise Refused(404, f"Image {source['alias']} not found in docker.io")

    async def load(self, operation: Operation, source: dict[str, Any]) -> None:
        if "fingerprint" in source:
            self.image(source["fingerprint"])
            return
        for state in ("waiting", "downloading", "unpacking", "done"):
            layers = [{**layer, "done": layer["size"] // 2, "state": state} for layer in LAYERS]
            operation.note(layers=layers, download_progress=f"{state} 2 layers")
            if "slow" in source["alias"]:
                await asyncio.sleep(30)
            await asyncio.sleep(0.01)
        if "broken" in source["alias"]:
            raise Refused(502, "Layer sha256:bb does not have the promised digest")
        self.images[FINGERPRINT] = {
            "fingerprint": FINGERPRINT,
            "aliases": [{"name": source["alias"], "description": ""}],
            "architecture": "x86_64",
            "size": 3500,
            "uploaded_at": NOW,
            "properties": {"description": "evil\x1b[31m text"},
        }

    def post_image(self, request: Any) -> Any:
        source = request["json"]["source"]
        self.check_reference(source)

        async def job(operation: Operation) -> None:
            await self.load(operation, source)
            operation.finish(200, fingerprint=FINGERPRINT, size=3500)

        return self.spawn("task", job, may_cancel=True)

    def delete_image(self, request: Any, name: str) -> Any:
        fingerprint = self.image(name)["fingerprint"]

        async def job(operation: Operation) -> None:
            del self.images[fingerprint]

        return self.spawn("task", job)

    def get_ancestry(self, request: Any, name: str) -> Any:
        self.image(name)
        return [
            {"chain_id": "sha256:c2", "digest": LAYERS[1]["digest"], "size": 500, "created_by": "RUN evil\x1b]0;x\x07"}
        ]

    # Instances

    def instance(self, name: str) -> dict[str, Any]:
        if name not in self.instances:
            raise Refused(404, "Instance not found")
        return self.instances[name]

    def state(self, name: str) -> dict[str, Any]:
        status = self.instance(name)["status"]
        addresses = [{"family": "inet", "address": "10.1.2.3", "netmask": "24", "scope": "global"}]
        return {
            "status": status,
            "pid": 4242 if status == "Running" else 0,
            "exit_code": self.exits.get(name),
            "exit_signal": None,
            "network": {"eth0": {"addresses": addresses}, "lo": {"addresses": addresses}},
        }

    def get_instances(self, request: Any) -> Any:
        return [{**instance, "state": self.state(name)} for name, instance in self.instances.items()]

    def post_instance(self, request: Any) -> Any:
        wanted = request["json"]
        self.check_reference(wanted["source"])
        name = wanted.get("name") or "picked-name"

        async def job(operation: Operation) -> None:
            if name in self.instances:
                raise Refused(409, 'This "instances" entry already exists')
            await self.load(operation, wanted["source"])
            self.instances[name] = {
                "name": name,
                "status": "Stopped",
                "type": "container",
                "config": wanted["config"],
                "ephemeral": wanted["ephemeral"],
                "profiles": wanted.get("profiles", ["default"]),
                "created_at": NOW,
            }
            self.consoles[name] = b""

        return self.spawn("task", job, may_cancel=True, instances=name, containers=name)

    def delete_instance(self, request: Any, name: str) -> Any:
        if self.instance(name)["status"] != "Stopped":
            raise Refused(400, "Instance is running")

        async def job(operation: Operation) -> None:
            del self.instances[name]

        return self.spawn("task", job, instances=name)

    def put_state(self, request: Any, name: str) -> Any:
        instance, wanted = self.instance(name), request["json"]
        self.publish("lifecycle", {"action": f"instance-{wanted['action']}", "source": f"/1.0/instances/{name}"})

        async def job(operation: Operation) -> None:
            running = instance["status"] != "Stopped"
            if wanted["action"] == "start" and running:
                raise Refused(409, "The instance is already running")
            if wanted["action"] == "stop" and not running:
                raise Refused(409, "The instance is already stopped")
            status = {"stop": "Stopped", "freeze": "Frozen"}.get(wanted["action"], "Running")
            command = shlex.split(instance["config"].get("oci.cmd", ""))
            if command == ["missing"]:
                raise Refused(400, f'Cannot start instance "{name}": "missing" not found')
            if status == "Running":
                self.consoles[name] = b"hello\n"
            if status == "Running" and command[:1] == ["exit"]:
                self.consoles[name] += b"bye\n"
                self.exits[name] = int(command[1])
                status = "Stopped"
            instance["status"] = status
            if status == "Stopped" and instance["ephemeral"]:
                del self.instances[name]
            self.changed.set()
            self.changed = asyncio.Event()

        return self.spawn("task", job, instances=name)

    async def wait_instance(self, request: Any, name: str) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(request["query"]["timeout"][0])):
                while self.instance(name)["status"] != "Stopped":
                    await self.changed.wait()
        return {key: self.state(name)[key] for key in ("status", "exit_code", "exit_signal")}

    async def console(self, request: Any, name: str) -> Any:
        self.instance(name)

        async def pieces() -> Any:
            text = self.consoles[name]
            if tail := request["query"].get("tail"):
                lines = text.splitlines(keepends=True)
                text = b"".join(lines[len(lines) - int(tail[0]) :])
            if text:
                yield text
            while (
                request["query"].get("follow") and name in self.instances and self.instance(name)["status"] != "Stopped"
            ):
                await self.changed.wait()

        return pieces()

    # Exec

    def exec(self, request: Any, name: str) -> Any:
        if self.instance(name)["status"] != "Running":
            raise Refused(400, "Instance is not running")
        wanted = request["json"]
        loop = asyncio.get_running_loop()
        keys = ("0", "control") if wanted["interactive"] else ("0", "1", "2", "control")
        sockets: dict[str, asyncio.Future[WebSocket]] = {key: loop.create_future() for key in keys}
        fds = {key: secrets.token_hex(32) for key in keys}
        self.fds |= {fds[key]: (key, sockets[key]) for key in keys}

        async def job(operation: Operation) -> None:
            opened = {key: await asyncio.wait_for(future, 5) for key, future in sockets.items()}
            run = self.run_terminal if wanted["interactive"] else self.run_pipes
            try:
                code = await run(wanted, opened)
                operation.finish(200, **{"return": code})
            except FileNotFoundError:
                operation.finish(400, "Command not found", **{"return": 127})
            finally:
                for websocket in opened.values():
                    websocket.drop()

        operation = self.spawn("websocket", job, instances=name)
        operation.raw["metadata"] = {"fds": fds, "command": wanted["command"], "interactive": wanted["interactive"]}
        return operation

    async def run_pipes(self, wanted: Any, sockets: dict[str, WebSocket]) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *wanted["command"],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={**os.environ, **wanted["environment"]},
            cwd=wanted["cwd"] or None,
        )
        control = asyncio.create_task(self.control(sockets["control"], process, None))
        feeder = asyncio.create_task(self.feed_pipe(sockets["0"], process))
        await asyncio.gather(self.copy_out(process.stdout, sockets["1"]), self.copy_out(process.stderr, sockets["2"]))
        code = await process.wait()
        for task in (control, feeder):
            task.cancel()
        await asyncio.gather(control, feeder, return_exceptions=True)
        return code if code >= 0 else 128 - code

    async def run_terminal(self, wanted: Any, sockets: dict[str, WebSocket]) -> int:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (wanted["height"], wanted["width"]))
        process = await asyncio.create_subprocess_exec(
            *wanted["command"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **wanted["environment"]},
        )
        os.close(slave)
        loop = asyncio.get_running_loop()
        control = asyncio.create_task(self.control(sockets["control"], process, master))

        async def feed() -> None:
            async for is_text, data in sockets["0"].frames():
                if not is_text:
                    os.write(master, data)

        feeder = asyncio.create_task(feed())
        with contextlib.suppress(OSError):
            while data := await loop.run_in_executor(None, os.read, master, 4096):
                sockets["0"].binary(data)
        sockets["0"].text("")
        code = await process.wait()
        # As real LXD: the operation runs on until the client closes fd 0.
        await feeder
        control.cancel()
        await asyncio.gather(control, return_exceptions=True)
        os.close(master)
        return code if code >= 0 else 128 - code

    async def copy_out(self, stream: Any, websocket: WebSocket) -> None:
        while data := await stream.read(65536):
            websocket.binary(data)
            await websocket.drain()
        websocket.text("")

    async def feed_pipe(self, websocket: WebSocket, process: Any) -> None:
        with contextlib.suppress(ConnectionError):
            async for is_text, data in websocket.frames():
                if is_text and not data:
                    break
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.close()

    async def control(self, websocket: WebSocket, process: Any, terminal: int | None) -> None:
        async for _, data in websocket.frames():
            message = json.loads(data)
            if message["command"] == "signal":
                process.send_signal(message["signal"])
            elif message["command"] == "window-resize" and terminal is not None:
                size = message["args"]
                termios.tcsetwinsize(terminal, (int(size["height"]), int(size["width"])))
        # Losing control kills the command.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def serve(path: Path) -> Iterator[FakeLxd]:
    """A server on `path` for the time of the block, on a thread of its own."""
    started: queue.Queue[tuple[FakeLxd, asyncio.Event]] = queue.Queue()

    async def main() -> None:
        fake, stop = FakeLxd(), asyncio.Event()
        server = await asyncio.start_unix_server(fake.connection, path)
        started.put((fake, stop))
        await stop.wait()
        server.close()
        for task in list(fake.tasks):
            task.cancel()
        await asyncio.gather(*fake.tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="fake-lxd")
    thread.start()
    fake, stop = started.get(timeout=10)
    try:
        yield fake
    finally:
        fake.loop.call_soon_threadsafe(stop.set)
        thread.join()
