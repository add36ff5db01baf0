"""Owner, mode and extended attributes of one directory for another."""

import os
from pathlib import Path

# overlayfs's notes on a directory are about where that one lies.
_OF_OVERLAYFS = ("trusted.overlay.", "user.overlay.")


def copy_attributes(source: Path, target: Path) -> None:
    """Give the directory `target` owner, mode and extended attributes (ACLs among them) of `source`. Raises OSError."""
    owner, group, mode, extended = _attributes(source)
    os.chown(target, owner, group)
    os.chmod(target, mode)
    for name, value in extended.items():
        os.setxattr(target, name, value)


def same_attributes(one: Path, other: Path) -> bool:
    """Whether two directories have the same owner, mode and extended attributes. Raises OSError."""
    return _attributes(one) == _attributes(other)


def _attributes(path: Path) -> tuple[int, int, int, dict[str, bytes]]:
    status = path.stat()
    extended = {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith(_OF_OVERLAYFS)}
    return status.st_uid, status.st_gid, status.st_mode & 0o7777, extended
