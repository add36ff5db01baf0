"""One command in a running instance, by LXD's exec protocol.

    interactive        websockets "0" (the terminal, both directions) and "control"
    non-interactive    websockets "0" (stdin), "1" (stdout), "2" (stderr); "control" if the client likes
    no websockets      output goes to log files, or nowhere

Data are binary messages, and an empty text message is the end of a stream, in both directions. Control messages are
JSON: {"command": "window-resize", "args": {"width": "80", "height": "24"}}, {"command": "signal", "signal": 15}.
A client that loses control before the end kills the command.
"""

import asyncio
import json
import logging
import os
import signal
import struct
import termios
import uuid
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxdpy.drivers.base import ExecProcess, ExecSpec, ExitStatus, RunningContainer
from lxdpy.errors import InvalidRequestError, NotFoundError, WorkerError
from lxdpy.progress import Progress
from lxdpy.project import instance_url
from lxdpy.services.instances.relay import End, Output, feed, pipe
from lxdpy.websocket import Sockets

logger = logging.getLogger(__name__)

_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_WIDTH, _HEIGHT = 80, 25


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command, and how its client will be connected to it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment."""
    interactive: bool = False
    width: int = 0
    height: int = 0
    wait_for_websocket: bool = False
    record_output: bool = False
    uid: int | None = None
    gid: int | None = None
    user: str = ""
    """Used when `uid` is None; as in StartSpec."""
    cwd: str = ""


class ExecSession:
    """One run of one command: `run` is the operation's job, `sockets` and `metadata` are what clients see of it."""

    def __init__(self, container: RunningContainer, request: ExecRequest, logs_directory: Path) -> None:
        """Raises InvalidRequestError for a command that can't be."""
        strings = (*request.argv, *request.environment, *request.environment.values(), request.cwd)
        if not request.argv or not request.argv[0]:
            raise InvalidRequestError("Cannot execute command: it is empty")
        if any("\0" in text for text in strings):
            raise InvalidRequestError("Cannot execute command: it holds a NUL character")
        if request.record_output and request.wait_for_websocket:
            raise InvalidRequestError("Cannot execute command: record-output and wait-for-websocket exclude each other")
        self._container = container
        self._request = request
        self._logs_directory = logs_directory
        names = ("0", "control") if request.interactive else ("0", "1", "2", "control")
        self.sockets = Sockets(names) if request.wait_for_websocket else None

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the operation says from its beginning; with websockets, the secrets as `fds`."""
        metadata: dict[str, object] = {
            "command": list(self._request.argv),
            "environment": dict(self._request.environment),
            "interactive": self._request.interactive,
        }
        if self.sockets is not None:
            metadata["fds"] = dict(self.sockets.secrets)
        return metadata

    async def run(self, progress: Progress) -> Mapping[str, object]:
        """Run the command to its end; the metadata has its exit code as `return`.

        Raises InvalidRequestError when websockets do not connect in time or the command can't be executed (126),
        NotFoundError when there is none (127), WorkerError. Cancelling kills the command.
        """
        if self.sockets is None:
            result = await self._unattended()
        else:
            relay = self._interactive if self._request.interactive else self._non_interactive
            try:
                result = {"return": await relay(self.sockets)}
            finally:
                await self.sockets.close()
        code = result["return"]
        if code in (_NOT_EXECUTABLE, _NOT_FOUND):
            progress.note(result)
            if code == _NOT_FOUND:
                raise NotFoundError("Command not found")
            raise InvalidRequestError("Command not executable")
        return result

    async def _interactive(self, sockets: Sockets) -> int:
        """On a terminal, which is one websocket."""
        _, client = await sockets.connections(("control", "0"))
        with ExitStack() as ends:
            master_fd, slave_fd = await self._container.open_terminal()
            master = End(master_fd)
            slave = End(slave_fd, blocking=True)
            ends.callback(master.close)
            ends.callback(slave.close)
            # A client without a size of its own, as in a CI job, gets LXD's: programs take 0 by 0 badly.
            termios.tcsetwinsize(master.fd, (self._request.height or _HEIGHT, self._request.width or _WIDTH))
            process = await self._exec(slave.fd, slave.fd, slave.fd, terminal=True)
            # Only with the last slave closed does the master tell the end.
            slave.close()
            # Without control there is nobody who could resize, signal or hang up: losing "0" alone changes nothing.
            output = Output(master, client, on_lost=lambda: None)
            return await self._attend(process, sockets, [output], feed(client, master, close=False), master)

    async def _non_interactive(self, sockets: Sockets) -> int:
        """On three pipes, a websocket each."""
        stdin, stdout, stderr = await sockets.connections(("0", "1", "2"))
        with ExitStack() as ends, ExitStack() as theirs:
            (child_in, our_in), (our_out, child_out), (our_err, child_err) = (
                self._pipe(ends, theirs, to_child=name == "0") for name in ("0", "1", "2")
            )
            process = await self._exec(child_in.fd, child_out.fd, child_err.fd)
            theirs.close()
            # A command that prints to a client that is gone gets SIGPIPE.
            outputs = [Output(our_out, stdout, our_out.close), Output(our_err, stderr, our_err.close)]
            return await self._attend(process, sockets, outputs, feed(stdin, our_in, close=True), None)

    @staticmethod
    def _pipe(ends: ExitStack, theirs: ExitStack, *, to_child: bool) -> tuple[End, End]:
        """A pipe, read end first; the child's end goes to `theirs`, ours to `ends`."""
        reader_fd, writer_fd = pipe()
        reader = End(reader_fd, blocking=to_child)
        writer = End(writer_fd, blocking=not to_child)
        (theirs if to_child else ends).callback(reader.close)
        (ends if to_child else theirs).callback(writer.close)
        return reader, writer

    async def _unattended(self) -> dict[str, object]:
        """Without a client: output to log files, or to nowhere."""
        with ExitStack() as ends:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            ends.callback(os.close, null)
            if not self._request.record_output:
                status = await _ended(await self._exec(null, null, null))
                return {"return": status.shell_code}
            name = f"exec_{uuid.uuid4()}"
            files = {"1": f"{name}.stdout", "2": f"{name}.stderr"}
            fds = []
            for file in files.values():
                fds.append(self._log_file(file))
                ends.callback(os.close, fds[-1])
            status = await _ended(await self._exec(null, fds[0], fds[1]))
        return {
            "output": {number: instance_url(self._container.name, "logs", file) for number, file in files.items()},
            "return": status.shell_code,
        }

    def _log_file(self, name: str) -> int:
        path = self._logs_directory / name
        try:
            self._logs_directory.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise WorkerError(f"Cannot record output of a command in {path}: {exc.strerror}") from exc

    async def _exec(self, stdin: int, stdout: int, stderr: int, *, terminal: bool = False) -> ExecProcess:
        request = self._request
        spec = ExecSpec(
            argv=request.argv,
            environment=tuple(request.environment.items()),
            uid=request.uid,
            gid=request.gid,
            user=request.user,
            cwd=request.cwd,
            terminal=terminal,
        )
        return await self._container.exec(spec, stdin, stdout, stderr)

    async def _attend(
        self,
        process: ExecProcess,
        sockets: Sockets,
        outputs: list[Output],
        feeding: Coroutine[Any, Any, None],
        terminal: End | None,
    ) -> int:
        """Relay until the process has ended and all that it printed is sent; its exit code as a shell's."""
        ending = asyncio.create_task(_ended(process))
        async with asyncio.TaskGroup() as tasks:
            attending = [
                tasks.create_task(feeding),
                tasks.create_task(_control(process, sockets, terminal)),
            ]
            for output in outputs:
                tasks.create_task(output.run())
            try:
                await asyncio.wait([ending])
            except asyncio.CancelledError:
                # By our caller, or because a relay has failed: no command goes on unattended.
                ending.cancel()
                await asyncio.wait([ending])
                raise
            for task in attending:
                task.cancel()
            await sockets.close(("control",))
            for output in outputs:
                output.process_ended()
        return ending.result().shell_code


async def _ended(process: ExecProcess) -> ExitStatus:
    """Wait for the end; cancelling kills the process and waits for that."""
    waiting = asyncio.ensure_future(process.wait())
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        process.signal(signal.SIGKILL)
        await asyncio.wait([waiting])
        raise


async def _control(process: ExecProcess, sockets: Sockets, terminal: End | None) -> None:
    """Do what control messages say; kill the process when control is lost."""
    connection = await sockets.connection("control")
    while (message := await connection.receive()) is not None:
        try:
            _obey(json.loads(message), process, terminal)
        except (ValueError, TypeError, KeyError, OverflowError, struct.error) as exc:
            logger.debug("Control message %.200r of pid %d is not understood: %s", message, process.pid, exc)
    process.signal(signal.SIGKILL)


def _obey(message: dict[str, Any], process: ExecProcess, terminal: End | None) -> None:
    """Commands that are not known are ignored, as LXD does."""
    match message["command"]:
        case "window-resize" if terminal is not None:
            size = (int(message["args"]["height"]), int(message["args"]["width"]))
            termios.tcsetwinsize(terminal.fd, size)
        case "signal" if 0 < (number := int(message["signal"])) < signal.NSIG:
            process.signal(number)
