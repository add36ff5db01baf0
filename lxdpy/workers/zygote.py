"""Fork server: one throw-away child per job. The daemon's end is drivers/zygote.py.

    daemon ──(SEQPACKET, fd 3)── zygote ──fork── child ──(SEQPACKET of its own)── daemon
             request + fds                        {"pid": N} + its pidfd first, then what the job says;
             fds[0] is the child's channel        {"error": KIND, "message": TEXT} when it raised

A child costs a fork, not an interpreter's start, and whatever it leaks, locks or corrupts ends with it. The zygote
itself runs nothing of a job; it ends when the daemon closes its socket. Children that are still at work are not its
business then. Lean: the lifecycle worker, whose children become container monitors, stands on this.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from lxdpy.errors import LxdpyError, WorkerError
from lxdpy.linux import packet

DAEMON_FD = 3


class Channel:
    """A child's connection to the daemon, for the one job it does."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, message: dict[str, object], fds: Sequence[int] = ()) -> None:
        """Tell the daemon. Raises OSError when it no longer listens."""
        packet.send(self._sock, message, fds)

    def receive(self) -> tuple[dict[str, object], list[int]] | None:
        """Wait for what the daemon says next; None when it has closed the channel."""
        return packet.receive(self._sock)

    def fileno(self) -> int:
        """For poll()."""
        return self._sock.fileno()

    def close(self) -> None:
        """Hang up; the daemon sees the job's end."""
        self._sock.close()


Run = Callable[[dict[str, object], Channel, list[int]], None]
Ahead = Callable[[bytes], None]


def inherited_socket() -> socket.socket:
    """The socket to the daemon that this process was spawned with; every other inherited descriptor is closed."""
    os.closerange(DAEMON_FD + 1, os.sysconf("SC_OPEN_MAX"))
    os.set_inheritable(DAEMON_FD, False)
    return socket.socket(fileno=DAEMON_FD)


def serve(sock: socket.socket, run: Run, *, ahead: Ahead | None = None, idle_timeout_s: float | None = None) -> None:
    """Fork a child for each request until the daemon hangs up, or asks nothing for `idle_timeout_s`.

    `run(request, channel, fds)` does the job in the child, which ends when it returns. What it raises goes to the
    daemon. `ahead(packet)` is called in the child before it does anything, with the request as it came.
    """
    # The kernel reaps: nothing here needs the children's statuses.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sock.settimeout(idle_timeout_s)
    gc.collect()
    # Collections in children would write to every object's header, and unshare the pages.
    gc.disable()
    gc.freeze()
    while True:
        try:
            received = packet.receive_undecoded(sock)
        except (TimeoutError, ConnectionError):
            return
        if received is None:
            return
        data, fds = received
        try:
            pid = os.fork()
        except OSError as exc:
            _, fds = packet.decode(data, fds)
            with socket.socket(fileno=fds.pop(0)) as channel:
                packet.send(channel, _error(WorkerError(f"Cannot fork a worker: {exc}")))
            pid = -1
        if pid == 0:
            _child(sock, data, fds, run, ahead)
        for fd in fds:
            os.close(fd)


def _child(sock: socket.socket, data: bytes, fds: list[int], run: Run, ahead: Ahead | None) -> None:
    """Do one job and end this process."""
    code = 1
    try:
        if ahead is not None:
            ahead(data)
        sock.close()
        request, fds = packet.decode(data, fds)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.enable()
        channel = Channel(socket.socket(fileno=fds[0]))
        pidfd = os.pidfd_open(os.getpid())
        channel.send({"pid": os.getpid()}, (pidfd,))
        os.close(pidfd)
        try:
            run(request, channel, fds[1:])
            code = 0
        except Exception as exc:  # noqa: BLE001 - the daemon raises it again
            if not isinstance(exc, LxdpyError):
                sys.excepthook(type(exc), exc, exc.__traceback__)
            channel.send(_error(exc))
    except BrokenPipeError:
        # The daemon gave the job up.
        pass
    finally:
        sys.stderr.flush()
        os._exit(code)


def _error(exc: Exception) -> dict[str, object]:
    if isinstance(exc, LxdpyError):
        return {"error": type(exc).__name__, "message": str(exc)}
    return {"error": "WorkerError", "message": f"{type(exc).__name__}: {exc}"}
