"""Delete directory trees, whatever is in them: thousands of levels deep, names that are no text, no modes to go by.

Subdirectories are moved up into the directory that is being emptied, so that nothing is ever opened deep down.
"""

import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

logger = logging.getLogger(__name__)

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


class Bin:
    """Deletes in the background, one tree after the other."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="trash")

    def put(self, path: Path) -> None:
        """Remove `path` by and by; when that fails, the log has it, and the next start tries again."""
        self._executor.submit(_remove_and_log, path)

    def close(self) -> None:
        """Finish the tree that is being removed, and leave the others."""
        self._executor.shutdown(cancel_futures=True)


def _remove_and_log(path: Path) -> None:
    try:
        remove(path)
    except OSError as exc:
        logger.warning("Cannot remove %s: %s", path, exc)


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
