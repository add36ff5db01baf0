"""Who a process in a container runs as: `USER[:GROUP]` by the rootfs's passwd and group files, as docker reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lxdpy.errors import InvalidRequestError

MAX_ID = 0xFFFFFFFE
MAX_GROUPS = 65536
# Python takes no number of thousands of digits.
_MAX_DIGITS = 20


class Account:
    """Ids inside the container, supplementary groups, and the home directory."""

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(user: str, read: Callable[[str], str]) -> Account:
    """Look `user` up: names and numbers on either side of the colon, "" is root.

    A number need not be listed: its group is 0 then, its home /. Supplementary groups are those that list the user's
    name, unless a group was named. `read` gives a file of the rootfs, "" for a missing one. Raises InvalidRequestError.
    """
    wanted, colon, wanted_group = user.partition(":")
    wanted = wanted or "0"
    number = _number(wanted)
    found = next(
        (entry for entry in _entries(read("/etc/passwd"), 7) if entry[0] == wanted),
        None,
    ) or next(
        (entry for entry in _entries(read("/etc/passwd"), 7) if number is not None and _number(entry[2]) == number),
        None,
    )
    name, uid, gid, home = None, number, 0, "/"
    if found is not None:
        name, uid, gid, home = found[0], _number(found[2]), _number(found[3]) or 0, found[5] or "/"
    if uid is None:
        raise InvalidRequestError(f'User "{wanted}" is not in /etc/passwd of the image')
    if colon and wanted_group:
        return Account(uid, _group(wanted_group, read), [], home)
    groups = []
    if name is not None:
        for entry in _entries(read("/etc/group"), 4):
            member_gid = _number(entry[2])
            if member_gid is not None and name in entry[3].split(",") and member_gid not in groups:
                groups.append(member_gid)
    return Account(uid, gid, groups[:MAX_GROUPS], home)


def home_of(uid: int, read: Callable[[str], str]) -> str:
    """The home directory of a uid; / when it is not listed."""
    for entry in _entries(read("/etc/passwd"), 7):
        if _number(entry[2]) == uid:
            return entry[5] or "/"
    return "/"


def _group(wanted: str, read: Callable[[str], str]) -> int:
    number = _number(wanted)
    for entry in _entries(read("/etc/group"), 4):
        gid = _number(entry[2])
        if entry[0] == wanted and gid is not None:
            return gid
    if number is None:
        raise InvalidRequestError(f'Group "{wanted}" is not in /etc/group of the image')
    return number


def _entries(text: str, fields: int) -> Iterator[list[str]]:
    """The well-formed lines, split."""
    # Not splitlines(): a user may have more in the comment on them that Unicode takes for an end of line.
    for line in text.split("\n"):
        entry = line.split(":")
        if len(entry) >= fields and not line.startswith("#"):
            yield entry


def _number(text: str) -> int | None:
    """A uid or gid, if `text` is one."""
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) <= MAX_ID:
        return int(text)
    return None
