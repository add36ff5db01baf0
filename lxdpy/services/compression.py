"""How clients say that a file is to be compressed: the name of an algorithm, maybe with a level: `zstd -19`."""

import shlex

from lxdpy.drivers.base import Compression
from lxdpy.errors import InvalidRequestError, UnsupportedError

_MOST_LEVELS = {"gzip": 9, "bzip2": 9, "xz": 9, "lzma": 9, "zstd": 22, "none": 0, "squashfs": 0}
_SAME = {"pigz": "gzip", "pbzip2": "bzip2", "pzstd": "zstd", "tar2sqfs": "squashfs"}


def parse(text: str) -> Compression:
    """Raises InvalidRequestError for what can't be, UnsupportedError for what LXD has and we have not."""
    try:
        name, *options = shlex.split(text)
    except ValueError:
        raise InvalidRequestError(f"Invalid compression algorithm {text!r:.100}") from None
    name = _SAME.get(name, name)
    if name == "lz4":
        raise UnsupportedError('Cannot compress by "lz4": use zstd')
    if name not in _MOST_LEVELS:
        raise InvalidRequestError(f"Invalid compression algorithm {name!r:.100}: {', '.join(sorted(_MOST_LEVELS))}")
    match options:
        case []:
            return Compression(name)
        case [option] if option[:1] == "-" and option[1:].isascii() and option[1:].isdigit():
            level = int(option[1:3])
            if option == f"-{level}" and 0 < level <= _MOST_LEVELS[name]:
                return Compression(name, level)
    raise InvalidRequestError(f"Invalid compression algorithm {text!r:.100}: nothing but a level may follow {name}")
