"""Copy a directory tree to which somebody may be writing, who may wish us ill: what is a directory at one moment may be
a symlink to /etc at the next.

Every step starts from an open directory and follows no symlink. Owners, modes, times, extended attributes, hard links,
holes and special files are kept; data is shared with the source where the file system can (FICLONE).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

FICLONE = 0x40049409

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = 1 << 30
# What a file that changed its kind, or went, while we looked makes calls fail with.
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)


class _Directory:
    """A directory that is being copied."""

    def __init__(self, source: int, target: int, path: bytes) -> None:
        self.source = source
        self.target = target
        self.path = path
        self.pending = [os.fsencode(name) for name in os.listdir(source)]

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


def copy_tree(source: str, target: str) -> None:
    """Copy directory `source` to `target`, which must not exist yet. Raises OSError; what there is by then stays.

    One descriptor more or less is open for each level: raise the limit for trees that are deep.
    """
    source_fd = os.open(source, _DIRECTORY)
    os.mkdir(target, 0o700)
    root = os.open(target, _DIRECTORY)
    # Beside the descriptor in the stack, which is closed first: names in the tree lead from here.
    base = os.dup(root)
    links: dict[tuple[int, int], bytes] = {}
    stack = [_Directory(source_fd, root, b"")]
    try:
        while stack:
            current = stack[-1]
            if not current.pending:
                _copy_attributes(current.source, current.target, os.fstat(current.source))
                stack.pop().close()
                continue
            name = current.pending.pop()
            try:
                below = _copy_entry(current, name, base, links)
            except OSError as exc:
                # It was there when its directory was read: somebody is at work in the source.
                if exc.errno not in _GONE:
                    raise
                continue
            if below is not None:
                stack.append(below)
    finally:
        for directory in stack:
            directory.close()
        os.close(base)


def _copy_entry(parent: _Directory, name: bytes, base: int, links: dict[tuple[int, int], bytes]) -> _Directory | None:
    """Copy one name; a directory is made, and what is in it left to the caller."""
    status = os.stat(name, dir_fd=parent.source, follow_symlinks=False)
    path = b"/".join((parent.path, name)) if parent.path else name
    if stat.S_ISDIR(status.st_mode):
        source = os.open(name, _DIRECTORY, dir_fd=parent.source)
        try:
            os.mkdir(name, 0o700, dir_fd=parent.target)
            return _Directory(source, os.open(name, _DIRECTORY, dir_fd=parent.target), path)
        except BaseException:
            os.close(source)
            raise
    if status.st_nlink > 1:
        identity = (status.st_dev, status.st_ino)
        if identity in links and _link(links[identity], base, name, parent.target):
            return None
        links[identity] = path
    if stat.S_ISREG(status.st_mode):
        _copy_file(parent, name)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(_read_link(parent.source, name), name, dir_fd=parent.target)
        _finish(parent, name, status)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent.target)
        _finish(parent, name, status)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=parent.target)
    return None


def _link(earlier: bytes, base: int, name: bytes, target: int) -> bool:
    """Give a file that was copied another name; False when it was not copied, because it was gone, or lies too deep."""
    try:
        os.link(earlier, name, src_dir_fd=base, dst_dir_fd=target, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return False
    return True


def _read_link(directory: int, name: bytes) -> bytes:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "It is no symlink any more", name) from exc
        raise


def _finish(parent: _Directory, name: bytes, status: os.stat_result) -> None:
    """Owner and times of what is neither file nor directory."""
    os.chown(name, status.st_uid, status.st_gid, dir_fd=parent.target, follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=parent.target, follow_symlinks=False)


def _copy_file(parent: _Directory, name: bytes) -> None:
    # Not opened before it is known for a regular file: some devices act at once.
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.source)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise FileNotFoundError(errno.ENOENT, "It is no file any more", name)
        source = os.open(f"/proc/self/fd/{found}", _READ & ~os.O_NOFOLLOW)
    finally:
        os.close(found)
    try:
        target = os.open(name, _WRITE, 0o600, dir_fd=parent.target)
        try:
            _copy_data(source, target)
            _copy_attributes(source, target, os.fstat(source))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_data(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError as exc:
        if exc.errno not in _NO_CLONE:
            raise
    size = os.fstat(source).st_size
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(source, start, os.SEEK_HOLE)
        position = start
        while position < end:
            count = os.copy_file_range(source, target, min(end - position, _PART), position, position)
            if not count:
                break
            position += count
        offset = max(end, start + 1)
    # A hole at the end.
    os.ftruncate(target, size)


def _copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Owner, then mode, which a change of owner strips of bits; then attributes, of which it strips capabilities."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as exc:
            if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def disk_usage(path: str) -> int:
    """Bytes that a tree takes on its disk; each file counts once however many names it has. Raises OSError."""
    seen: set[tuple[int, int]] = set()
    root = os.open(path, _DIRECTORY)
    total = os.fstat(root).st_blocks * 512
    pending = [(root, os.listdir(root))]
    try:
        while pending:
            fd, names = pending[-1]
            if not names:
                os.close(fd)
                pending.pop()
                continue
            name = names.pop()
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    below = os.open(name, _DIRECTORY, dir_fd=fd)
                    pending.append((below, os.listdir(below)))
            except OSError as exc:
                if exc.errno not in _GONE:
                    raise
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    finally:
        for fd, _ in pending:
            os.close(fd)
    return total
