"""Delete directory trees, whatever is in them: thousands of levels deep, names that are no text, no modes to go by.

Subdirectories are moved up into the directory that is being emptied, so that nothing is ever opened deep down.
"""

import os
import secrets
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path) -> None:
    """Remove a file or a directory tree; a missing one is fine. Raises OSError."""
    try:
        root = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink(missing_ok=True)
        return
    try:
        # Nothing in the tree can have been named after a number that was drawn just now.
        prefix = f".{secrets.token_hex(8)}-"
        pending = _unlink_files(root)
        count = 0
        while pending:
            name = pending.pop()
            fd = os.open(name, _DIRECTORY, dir_fd=root)
            try:
                for child in _unlink_files(fd):
                    moved = f"{prefix}{count}"
                    count += 1
                    os.rename(child, moved, src_dir_fd=fd, dst_dir_fd=root)
                    pending.append(moved)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)
    path.rmdir()


def _unlink_files(fd: int) -> list[str]:
    """Remove all that is no directory from the directory `fd`; returns the names of those."""
    with os.scandir(fd) as listing:
        entries = list(listing)
    directories = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=fd)
    return directories
