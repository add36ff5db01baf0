"""The two protocols by which systemd speaks with a service: sd_notify(3) and sd_listen_fds(3)."""

import logging
import os
import socket

logger = logging.getLogger(__name__)

_FIRST_FD = 3


def notify(message: str) -> None:
    """Tell the service manager, if there is one, e.g. `READY=1`."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(message.encode(), address)
    except OSError as exc:
        # The manager will see for itself; the daemon's work does not hang on it.
        logger.warning("Cannot notify the service manager: %s", exc)


def activated_socket() -> socket.socket | None:
    """The listening socket that systemd made for us, if any."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or int(os.environ.get("LISTEN_FDS", "0")) < 1:
        return None
    sock = socket.socket(fileno=_FIRST_FD)
    sock.set_inheritable(False)
    return sock
