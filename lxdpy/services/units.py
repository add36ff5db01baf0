"""Sizes as LXD's clients write them."""

import re

from lxdpy.errors import InvalidRequestError

_SIZE = re.compile(r"(\d{1,19}) ?([A-Za-z]*)\Z", re.ASCII)
_UNITS = {
    "": 1,
    "B": 1,
    "bytes": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "EB": 10**18,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "PiB": 1 << 50,
    "EiB": 1 << 60,
}
_LARGEST = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes of `512`, `512MiB`, `1GB`. Raises InvalidRequestError."""
    match = _SIZE.match(text.strip())
    if match is None or match[2] not in _UNITS:
        raise InvalidRequestError("expected a size such as 512MiB or 1GB")
    size = int(match[1]) * _UNITS[match[2]]
    if size > _LARGEST:
        raise InvalidRequestError(f"it is larger than {_LARGEST} bytes")
    return size
