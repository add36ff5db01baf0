"""Which socket to speak to."""

import os
from collections.abc import Mapping

DEFAULT_SOCKET = "/var/lib/lxdpy/unix.socket"


def socket_path(environ: Mapping[str, str] = os.environ) -> str:
    """LXDPY_SOCKET, else LXD_SOCKET, else $LXD_DIR/unix.socket, else lxdpy's default."""
    for variable in ("LXDPY_SOCKET", "LXD_SOCKET"):
        if path := environ.get(variable):
            return path
    if directory := environ.get("LXD_DIR"):
        return os.path.join(directory, "unix.socket")
    return DEFAULT_SOCKET
