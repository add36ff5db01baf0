"""A running container whose commands are processes of this host: exec's relays on the real thing."""

import asyncio
import os
import signal
import subprocess
import sys

from lxdpy.drivers.base import ExecSpec, ExitStatus

# What a worker does in the child: a session of its own on the terminal, exit codes of a shell.
_CHILD = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if sys.argv[1] == "terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
except FileNotFoundError:
    os._exit(127)
except PermissionError:
    os._exit(126)
"""


class HostProcess:
    """Implements `ExecProcess`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._end = asyncio.ensure_future(asyncio.to_thread(process.wait))
        self.signals: list[int] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, signo: int) -> None:
        self.signals.append(signo)
        self._process.send_signal(signo)

    async def wait(self) -> ExitStatus:
        code = await asyncio.shield(self._end)
        return ExitStatus(code=None, signal=-code) if code < 0 else ExitStatus(code=code, signal=None)


class HostContainer:
    """Implements as much of `RunningContainer` as exec needs."""

    name = "web"

    def __init__(self) -> None:
        self.specs: list[ExecSpec] = []
        self.processes: list[HostProcess] = []

    async def exec(self, spec: ExecSpec, stdin: int, stdout: int, stderr: int) -> HostProcess:
        self.specs.append(spec)
        process = subprocess.Popen(  # noqa: ASYNC220 (a fork and no wait)
            [sys.executable, "-I", "-S", "-c", _CHILD, "terminal" if spec.terminal else "pipes", *spec.argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={"PATH": os.environ["PATH"], **dict(spec.environment)},
            start_new_session=True,
        )
        self.processes.append(HostProcess(process))
        return self.processes[-1]

    async def open_terminal(self) -> tuple[int, int]:
        return os.openpty()

    def kill_all(self) -> None:
        """End what a failed test left."""
        for process in self.processes:
            process.signal(signal.SIGKILL)
