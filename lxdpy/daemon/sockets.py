"""The listening socket and the lock that keeps a second daemon out of the state directory."""

import fcntl
import grp
import os
import socket
from pathlib import Path

from lxdpy.daemon import systemd
from lxdpy.errors import BusyError, WorkerError

_BACKLOG = 1024


def lock(state_dir: Path) -> int:
    """Take the state directory; returns the file descriptor that holds it. Raises BusyError, WorkerError."""
    try:
        state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        state_dir.chmod(0o711)
        fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise WorkerError(f"Cannot use state directory {state_dir}: {exc}") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise BusyError(f"Cannot use state directory {state_dir}: another lxdpy daemon runs on it") from None
    return fd


def listen(path: Path, group: str) -> socket.socket:
    """Listen on `path`, 0660, owned by `group` where that exists; or take the socket that systemd made.

    Whoever may open the socket is root on this host. Raises WorkerError.
    """
    if (activated := systemd.activated_socket()) is not None:
        return activated
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        try:
            os.chown(path, 0, grp.getgrnam(group).gr_gid)
        except KeyError:
            pass
        path.chmod(0o660)
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise WorkerError(f"Cannot listen on {path}: {exc}") from exc
    return sock
