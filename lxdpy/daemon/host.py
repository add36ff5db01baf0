"""What a host must be for lxdpy to run on it."""

import os
import re

from lxdpy.errors import UnsupportedError

MINIMUM_KERNEL = (5, 19)


def check(release: str | None = None, uid: int | None = None) -> None:
    """Raises UnsupportedError that says what is missing: root, or a kernel with overlay on idmapped layers."""
    if (os.getuid() if uid is None else uid) != 0:
        raise UnsupportedError("Cannot run the daemon: it must be root (sudo lxdpy daemon)")
    release = os.uname().release if release is None else release
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None or (int(match[1]), int(match[2])) < MINIMUM_KERNEL:
        raise UnsupportedError(
            f"Cannot run the daemon: kernel {release} is too old; overlay on idmapped layers needs "
            f"{MINIMUM_KERNEL[0]}.{MINIMUM_KERNEL[1]}"
        )
