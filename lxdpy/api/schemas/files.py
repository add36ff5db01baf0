"""Files on the wire: LXD's headers.

X-LXD-uid, X-LXD-gid   the container's ids, in decimal digits
X-LXD-mode             permissions, setuid and the like, in octal digits
X-LXD-type             file, directory, symlink
X-LXD-write            overwrite (also when absent), append
X-LXD-modify-perm      which of uid, gid and mode an existing file gets too, comma-separated
X-LXD-modified         last change, as Go prints a time: 2026-01-31 23:59:59.123456789 +0000 UTC
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from lxdpy.drivers.base import FileAttributes, FileKind, FileStatus
from lxdpy.errors import InvalidRequestError
from lxdpy.services.instances import NewFile

_MODIFIABLE = ("uid", "gid", "mode")
_MAX_ID = 0xFFFFFFFE
_MAX_MODE = 0o177777
_MAX_DIGITS = 12
_PERMISSIONS = 0o7777
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)? ?(?:Z|\+00:?00)(?: UTC)?\Z", re.ASCII
)


def headers(status: FileStatus) -> dict[str, str]:
    """What GET and HEAD say of a file."""
    return {
        "X-LXD-uid": str(status.uid),
        "X-LXD-gid": str(status.gid),
        "X-LXD-mode": f"{status.mode:04o}",
        "X-LXD-type": status.kind,
        "X-LXD-modified": render_time(status.modified_ns),
    }


def new_file(given: Mapping[str, str]) -> NewFile:
    """What a POST asks for. Raises InvalidRequestError."""
    kind, write = given.get("x-lxd-type") or "file", given.get("x-lxd-write") or "overwrite"
    if kind not in list(FileKind):
        raise InvalidRequestError(f"Bad file type: {kind:.100}")
    if write not in ("overwrite", "append"):
        raise InvalidRequestError(f"Bad file write mode: {write:.100}")
    modify = frozenset(filter(None, (word.strip() for word in given.get("x-lxd-modify-perm", "").split(","))))
    if unknown := modify - set(_MODIFIABLE):
        raise InvalidRequestError(f'Bad value "{min(unknown):.100}" of X-LXD-modify-perm')
    modified = given.get("x-lxd-modified")
    # pylxd sends what stat() says, the kind of file included.
    mode = _number(given, "X-LXD-mode", 8, _MAX_MODE)
    return NewFile(
        FileKind(kind),
        FileAttributes(
            uid=_number(given, "X-LXD-uid", 10, _MAX_ID),
            gid=_number(given, "X-LXD-gid", 10, _MAX_ID),
            mode=None if mode is None else mode & _PERMISSIONS,
            modify=modify,
            modified_ns=parse_time(modified) if modified else None,
        ),
        append=write == "append",
    )


def shown(name: str) -> str:
    """A directory's entry as JSON can hold it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def render_time(nanoseconds: int) -> str:
    """A time as Go prints it."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        # A container can give a file any time; the year 9999 is as late as another.
        moment, fraction = datetime.max if seconds > 0 else _EPOCH, 0
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{moment.replace(tzinfo=None).isoformat(' ', 'seconds')}{digits} +0000 UTC"


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch. Raises InvalidRequestError."""
    match = _TIME.match(text.strip())
    try:
        if match is None:
            raise ValueError("it is no time in UTC")
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as exc:
        raise InvalidRequestError(f'Bad value "{text:.100}" of X-LXD-modified: {exc}') from exc
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((match[7] or "0").ljust(9, "0"))


def _number(given: Mapping[str, str], header: str, base: int, limit: int) -> int | None:
    """A header that is a number; an absent or negative one is None, as LXD's clients mean it."""
    text = given.get(header.lower(), "").strip()
    if not text or text.startswith("-"):
        return None
    try:
        number = int(text, base) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else limit + 1
    except ValueError:
        number = limit + 1
    if number > limit:
        raise InvalidRequestError(f'Bad value "{text:.100}" of {header}')
    return number
