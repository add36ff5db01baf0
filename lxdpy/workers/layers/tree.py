"""Make files of a layer's entries, in a directory of its own and never outside of it.

    entry            becomes
    .wh.NAME         char device 0:0 NAME: overlayfs' whiteout of what the layers below have there
    .wh..wh..opq     trusted.overlay.opaque=y on its directory; whiteouts inside say nothing more and go
    .wh..wh.*        nothing: bookkeeping of aufs
    NAME twice       the last one, with a warning; a directory stays, and takes the last one's attributes
    NAME, .wh.NAME   NAME, in whatever order; a directory becomes opaque (its old children are gone)
    a device         itself when every container may have it, otherwise nothing

A layer is unpacked without the layers below, so that all can be at the same time. What only they can tell is put
down in `Deferred`, for workers/layers/fit.py: attributes of directories that have children and no entry here (or
whether they are symlinks below), hardlinks to files that are not here, and an opaque root.

Nothing is opened through a symlink: directories are found by component, links among them are followed by hand within
the layer, files are made by O_EXCL in an open directory. Owners are as in the archive; nothing is ever shifted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lxdpy.errors import LayerError
from lxdpy.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from lxdpy.workers.layers.tar import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
    show,
)

MAX_PATH_BYTES = 4096 - 256
"""What is left of PATH_MAX with the store's own path before it."""
MAX_DEPTH = 1000
MAX_SYMLINKS = 40
MAX_MTIME_NS = (1 << 33) * 1_000_000_000
"""What every file system can store."""

OPAQUE = "trusted.overlay.opaque"
WHITEOUT_PREFIX = b".wh."
AUFS_PREFIX = b".wh..wh."
OPAQUE_MARKER = b".wh..wh..opq"

_MAX_ID = 2**32 - 2
_MAX_OPEN_DIRECTORIES = 256
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL_BITS = 0o7000
# Memory devices and terminals that say nothing of the host: null, zero, full, random, urandom, tty, ptmx.
_DEVICES = frozenset(
    (CHAR_DEVICE, numbers) for numbers in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
)  # fmt: skip
_MAX_WARNINGS = 20


@dataclass(slots=True)
class Deferred:
    """What needs the layers below; paths are relative to the layer's root and free of symlinks of this layer."""

    directories: list[bytes] = field(default_factory=list)
    """Made because something is in them, parents first: mode 0755, root's."""
    hardlinks: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(name, target as in the archive)."""
    opaque_root: bool = False

    def __bool__(self) -> bool:
        return bool(self.directories or self.hardlinks or self.opaque_root)


@dataclass(slots=True)
class Unpacked:
    """What became of a layer."""

    entries: int
    size_bytes: int
    deferred: Deferred
    warnings: list[str]


class Entries(Protocol):
    """What is unpacked: a TarReader, or a part of one."""

    def __iter__(self) -> Iterator[Entry]: ...

    def pieces(self) -> Iterator[memoryview]:
        """The rest of the current entry's data."""


class _Directory:
    """A directory of the layer that exists on disk."""

    __slots__ = ("fd", "mode", "mtime_ns", "opaque", "path", "stated", "xattrs")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.fd = -1
        """Open while it is needed; see `Tree._opened`."""
        self.stated = False
        """It has an entry of its own."""
        self.mode = 0o755
        self.mtime_ns = 0
        self.xattrs: list[tuple[bytes, bytes]] = []
        self.opaque = False


class Tree:
    """A layer being unpacked into the empty directory `root_fd`. The umask must be 0."""

    def __init__(self, root_fd: int, max_entries: int, *, whiteouts: bool = True) -> None:
        """Without `whiteouts` the layer stands on nothing: names are what they are."""
        self._max_entries = max_entries
        self._has_whiteouts = whiteouts
        self._root = _Directory(b"")
        self._root.fd = root_fd
        self._directories: dict[bytes, _Directory] = {b"": self._root}
        self._open: list[_Directory] = []
        # Parents by their spelling in the archive; their descriptors are open.
        self._parents: dict[bytes, _Directory] = {}
        self._whiteouts: set[bytes] = set()
        self._links: list[tuple[bytes, bytes]] = []
        self._entries = 0
        self._size_bytes = 0
        self._warnings: list[str] = []
        self._current = b""

    def unpack(self, reader: Entries) -> Unpacked:
        """Unpack every entry. Raises LayerError for what can't or must not be made, OSError for what went wrong."""
        try:
            os.fchown(self._root.fd, 0, 0)
            self._unpack(reader)
            self._link_forward()
            deferred = self._finish()
        except OSError as exc:
            if exc.errno in LAYERS_FAULT:
                raise LayerError(f"Cannot unpack {show(self._current)}: {exc.strerror}") from exc
            raise
        finally:
            self._close_directories()
        return Unpacked(self._entries, self._size_bytes, deferred, self._warnings)

    def _unpack(self, reader: Entries) -> None:
        parents = self._parents
        os_open, os_write, os_close, os_utime, os_fchown = os.open, os.write, os.close, os.utime, os.fchown
        entries = 0
        for entry in reader:
            entries += 1
            path = self._current = entry.path
            uid, gid = entry.uid, entry.gid
            if not 0 <= uid <= _MAX_ID or not 0 <= gid <= _MAX_ID:
                raise LayerError(f"Cannot unpack {show(path)}: its owner {uid}:{gid} is out of range")
            # What follows is for the common case: a regular file in a directory that was used just now.
            directory, _, name = path.rpartition(b"/")
            parent = parents.get(directory)
            if entry.kind != REGULAR or parent is None or name[:1] in b"." or len(path) > MAX_PATH_BYTES:
                self._entries = entries
                if entries > self._max_entries:
                    raise LayerError(f"The layer has more than {self._max_entries} entries")
                located = self._locate(path)
                if located is None:
                    continue
                parent, name = located
                if entry.kind != REGULAR:
                    self._make(entry, parent, name)
                    continue
                if parent is self._root and not name:
                    raise LayerError("Cannot unpack the root: it is no directory")
            mode = entry.mode
            try:
                fd = os_open(name, _NEW_FILE, mode & 0o777, dir_fd=parent.fd)
            except FileExistsError:
                self._clear(parent, name)
                fd = os_open(name, _NEW_FILE, mode & 0o777, dir_fd=parent.fd)
            try:
                data = entry.data
                if data is None:
                    for piece in reader.pieces():
                        _write(fd, piece)
                elif data:
                    written = os_write(fd, data)
                    if written != len(data):
                        _write(fd, data[written:])
                if uid or gid:
                    os_fchown(fd, uid, gid)
                if mode & _SPECIAL_BITS:
                    os.fchmod(fd, mode)
                if entry.xattrs:
                    self._set_xattrs(fd, entry.xattrs)
                mtime_ns = entry.mtime_ns
                if not 0 <= mtime_ns <= MAX_MTIME_NS:
                    mtime_ns = _clamp(mtime_ns)
                os_utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os_close(fd)
            self._size_bytes += entry.size
        self._entries = entries
        if entries > self._max_entries:
            raise LayerError(f"The layer has more than {self._max_entries} entries")

    # ---- finding

    def _locate(self, path: bytes) -> tuple[_Directory, bytes] | None:
        """The directory (open) and name to make an entry at; the root is (root, b""). None: the entry says all.

        Whiteouts and opaque markers are made here.
        """
        parts = _split(path)
        if not parts:
            return self._root, b""
        name = parts.pop()
        if self._has_whiteouts:
            for part in parts:
                if part.startswith(WHITEOUT_PREFIX):
                    if part.startswith(AUFS_PREFIX):
                        return None
                    raise LayerError(f"Cannot unpack {show(path)}: a whiteout is no directory")
            if name.startswith(AUFS_PREFIX) and name != OPAQUE_MARKER:
                return None
        directory, _, last = path.rpartition(b"/")
        parent = self._parents.get(directory) if last == name else None
        if parent is None:
            parent = self._parent(parts)
            if last == name:
                self._parents[directory] = parent
        if self._has_whiteouts and name.startswith(WHITEOUT_PREFIX):
            if name == OPAQUE_MARKER:
                parent.opaque = True
            else:
                self._white_out(parent, name[len(WHITEOUT_PREFIX) :])
            return None
        return parent, name

    def _parent(self, parts: list[bytes]) -> _Directory:
        """The open directory at `parts`, which is made if need be; symlinks that the layer has are followed in it."""
        directory = self._directories.get(b"/".join(parts))
        if directory is None:
            directory = self._walk(parts)
        return self._opened(directory)

    def _walk(self, parts: list[bytes]) -> _Directory:
        ahead = parts[::-1]
        directory = self._root
        links = 0
        while ahead:
            part = ahead.pop()
            if part == b"..":
                directory = self._directories[directory.path.rpartition(b"/")[0]]
                continue
            path = _join(directory.path, part)
            known = self._directories.get(path)
            if known is not None:
                directory = known
                continue
            self._opened(directory)
            target = _read_link(directory.fd, part)
            if target is None:
                directory = self._make_directory(directory, part)
                continue
            links += 1
            if links > MAX_SYMLINKS:
                raise LayerError(f"Cannot unpack {show(self._current)}: too many symlinks in its path")
            if target.startswith(b"/"):
                directory = self._root
            ahead.extend(part for part in reversed(target.split(b"/")) if part and part != b".")
            if len(ahead) > MAX_DEPTH:
                raise LayerError(f"Cannot unpack {show(self._current)}: it is too deep")
        return directory

    def _make_directory(self, parent: _Directory, name: bytes) -> _Directory:
        """A new directory in place of whatever is there, except a directory: that is taken."""
        path = _join(parent.path, name)
        if len(path) > MAX_PATH_BYTES or path.count(b"/") >= MAX_DEPTH:
            raise LayerError(f"Cannot unpack {show(self._current)}: it is too deep")
        directory = self._directories.get(path)
        if directory is not None:
            return directory
        if len(self._directories) > self._max_entries:
            # An entry may stand for a thousand directories above it.
            raise LayerError(f"The layer has more than {self._max_entries} directories")
        directory = _Directory(path)
        try:
            os.mkdir(name, 0o755, dir_fd=parent.fd)
        except FileExistsError:
            directory.opaque = path in self._whiteouts
            self._clear(parent, name)
            os.mkdir(name, 0o755, dir_fd=parent.fd)
        self._directories[path] = directory
        return directory

    def _opened(self, directory: _Directory) -> _Directory:
        if directory.fd < 0:
            if len(self._open) >= _MAX_OPEN_DIRECTORIES:
                self._close_directories()
            directory.fd = openat2(
                self._root.fd, directory.path, _DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
            )
            self._open.append(directory)
        return directory

    def _close_directories(self) -> None:
        self._parents.clear()
        for directory in self._open:
            os.close(directory.fd)
            directory.fd = -1
        self._open.clear()

    # ---- making

    def _make(self, entry: Entry, parent: _Directory, name: bytes) -> None:
        """Make what is no regular file."""
        kind = entry.kind
        if kind == DIRECTORY:
            self._state_directory(entry, parent, name)
            return
        if not name:
            raise LayerError("Cannot unpack the root: it is no directory")
        if kind == HARDLINK:
            self._link(_join(parent.path, name), entry.link, last_try=False)
            return
        if kind in (CHAR_DEVICE, BLOCK_DEVICE) and (kind, entry.device) not in _DEVICES:
            if kind == CHAR_DEVICE and entry.device == (0, 0):
                raise LayerError(f"Cannot unpack {show(entry.path)}: it is a whiteout in disguise")
            self._warn(f"Left out device {show(entry.path)}")
            return
        try:
            _make_special(entry, parent.fd, name)
        except FileExistsError:
            self._clear(parent, name)
            _make_special(entry, parent.fd, name)
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent.fd, follow_symlinks=False)
        if kind != SYMLINK and entry.mode & _SPECIAL_BITS:
            os.chmod(name, entry.mode, dir_fd=parent.fd)
        mtime_ns = _clamp(entry.mtime_ns)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent.fd, follow_symlinks=False)

    def _state_directory(self, entry: Entry, parent: _Directory, name: bytes) -> None:
        """A directory's own entry; what would change things made in it later is set at the end."""
        directory = self._make_directory(parent, name) if name else self._root
        if not name:
            os.fchown(self._root.fd, entry.uid, entry.gid)
        elif entry.uid or entry.gid or directory.stated:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent.fd, follow_symlinks=False)
        directory.stated = True
        directory.mode, directory.mtime_ns, directory.xattrs = entry.mode, _clamp(entry.mtime_ns), entry.xattrs

    def _white_out(self, parent: _Directory, name: bytes) -> None:
        """Hide `name` of the layers below."""
        if name in (b"", b".", b".."):
            raise LayerError(f"Cannot unpack {show(self._current)}: it whites out nothing that has a name")
        path = _join(parent.path, name)
        directory = self._directories.get(path)
        if directory is not None:
            directory.opaque = True
            return
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent.fd)
        except FileExistsError:
            return
        os.utime(name, ns=(0, 0), dir_fd=parent.fd, follow_symlinks=False)
        self._whiteouts.add(path)

    def _clear(self, parent: _Directory, name: bytes) -> None:
        """Remove what an entry is about to replace."""
        path = _join(parent.path, name)
        if path in self._whiteouts:
            self._whiteouts.discard(path)
            os.unlink(name, dir_fd=parent.fd)
            return
        self._warn(f"Took the last of several entries named {show(path)}")
        if path not in self._directories:
            os.unlink(name, dir_fd=parent.fd)
            # Parents were found through it, if it was a symlink.
            self._parents.clear()
            return
        prefix = path + b"/"
        gone = [known for known in self._directories if known == path or known.startswith(prefix)]
        self._close_directories()
        for known in gone:
            del self._directories[known]
        self._whiteouts = {known for known in self._whiteouts if not known.startswith(prefix)}
        self._links = [link for link in self._links if not link[0].startswith(prefix)]
        remove_tree(self._root.fd, path)
        self._opened(parent)

    def _link(self, path: bytes, target: bytes, *, last_try: bool) -> bool:
        """Make a hardlink; when its target is not here (yet), note it instead, or return False at the last try."""
        self._current = path
        parent_path, _, name = path.rpartition(b"/")
        parent = self._opened(self._directories[parent_path])
        source = self._find(target)
        if source is None:
            if not last_try:
                # What was at its place has lost it already.
                if self._exists(parent, name):
                    self._clear(parent, name)
                self._links.append((path, target))
            return False
        source_parent, source_name = source
        if _join(source_parent.path, source_name) == path:
            return True
        # Opening one may close all others: the third call finds both open.
        for directory in (parent, source_parent, parent):
            self._opened(directory)
        try:
            os.link(
                source_name, name, src_dir_fd=source_parent.fd, dst_dir_fd=parent.fd, follow_symlinks=False
            )  # fmt: skip
        except FileExistsError:
            if last_try and path not in self._whiteouts:
                # A later entry of that name was made meanwhile.
                return True
            self._clear(parent, name)
            # What was there may have been a directory, with the target in it.
            return self._link(path, target, last_try=last_try)
        return True

    def _find(self, target: bytes) -> tuple[_Directory, bytes] | None:
        """Where a hardlink's target is (its directory is open), or None when the layer does not have it."""
        parts = _split(target)
        if not parts:
            raise LayerError(f"Cannot unpack {show(self._current)}: it links to {show(target)}")
        name = parts.pop()
        ahead = parts[::-1]
        directory = self._root
        links = 0
        while ahead:
            part = ahead.pop()
            if part == b"..":
                directory = self._directories[directory.path.rpartition(b"/")[0]]
                continue
            known = self._directories.get(_join(directory.path, part))
            if known is not None:
                directory = known
                continue
            link = _read_link(self._opened(directory).fd, part)
            links += 1
            if link is None or links > MAX_SYMLINKS:
                return None
            if link.startswith(b"/"):
                directory = self._root
            ahead.extend(part for part in reversed(link.split(b"/")) if part and part != b".")
        path = _join(directory.path, name)
        if path in self._directories:
            raise LayerError(f"Cannot unpack {show(self._current)}: it links to directory {show(target)}")
        if path in self._whiteouts or not self._exists(self._opened(directory), name):
            return None
        return directory, name

    def _exists(self, parent: _Directory, name: bytes) -> bool:
        try:
            os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _link_forward(self) -> None:
        """Make the hardlinks whose targets came after them."""
        while self._links:
            pending = [link for link in self._links if not self._link(*link, last_try=True)]
            if len(pending) == len(self._links):
                break
            self._links = pending

    # ---- at the end

    def _finish(self) -> Deferred:
        """Set what is set last, and say what is left to do."""
        hidden = self._hidden()
        for path in self._whiteouts:
            parent = path.rpartition(b"/")[0]
            if parent in hidden:
                os.unlink(path, dir_fd=self._root.fd)
        for directory in reversed(self._directories.values()):
            if directory is not self._root:
                self._finish_directory(directory)
        self._finish_root()
        return Deferred(
            directories=[
                directory.path
                for directory in self._directories.values()
                if not directory.stated and directory.path and directory.path not in hidden
            ],
            hardlinks=self._links,
            opaque_root=self._root.opaque,
        )

    def _hidden(self) -> set[bytes]:
        """Directories that have nothing below them: they, or one above, are opaque."""
        hidden: set[bytes] = set()
        # Parents come before children.
        for path, directory in self._directories.items():
            if directory.opaque or (path and path.rpartition(b"/")[0] in hidden):
                hidden.add(path)
        return hidden

    def _finish_directory(self, directory: _Directory) -> None:
        path, root_fd = directory.path, self._root.fd
        self._current = path
        if directory.opaque or directory.xattrs:
            fd = openat2(
                root_fd,
                path,
                os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
                resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
            )
            try:
                if directory.mode != 0o755:
                    os.fchmod(fd, directory.mode)
                self._set_xattrs(fd, directory.xattrs)
                if directory.opaque:
                    os.setxattr(fd, OPAQUE, b"y")
            finally:
                os.close(fd)
        elif directory.mode != 0o755:
            os.chmod(path, directory.mode, dir_fd=root_fd)
        os.utime(path, ns=(directory.mtime_ns, directory.mtime_ns), dir_fd=root_fd, follow_symlinks=False)

    def _finish_root(self) -> None:
        root = self._root
        os.fchmod(root.fd, root.mode)
        self._set_xattrs(root.fd, root.xattrs)
        os.utime(root.fd, ns=(root.mtime_ns, root.mtime_ns))

    def _set_xattrs(self, fd: int, xattrs: Iterable[tuple[bytes, bytes]]) -> None:
        """Set those that a layer may have. Others speak to the host's kernel: overlayfs, SELinux, IMA."""
        for name, value in xattrs:
            if not is_allowed_xattr(name):
                self._warn(f"Left out extended attribute {show(name)} of {show(self._current)}")
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as exc:
                # ENOSPC: ext4 has one block for all of a file's. A disk that is full shows at the next write.
                if exc.errno not in (errno.ENOTSUP, errno.EINVAL, errno.E2BIG, errno.ERANGE, errno.ENOSPC):
                    raise
                self._warn(f"Left out extended attribute {show(name)} of {show(self._current)}: {exc.strerror}")

    def _warn(self, text: str) -> None:
        if len(self._warnings) < _MAX_WARNINGS:
            self._warnings.append(text)


# What a name, a target or an attribute can do wrong; all else is the host's failure.
LAYERS_FAULT = frozenset(
    (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL,
     errno.EILSEQ, errno.EMLINK, errno.EFBIG)
)  # fmt: skip


def is_allowed_xattr(name: bytes) -> bool:
    """Whether a layer may set this extended attribute."""
    if name.startswith(b"user."):
        return not name.startswith(b"user.overlay.") and len(name) <= 255
    return name in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def remove_tree(root_fd: int, path: bytes) -> None:
    """Remove a directory and all in it, however deep; symlinks are not followed."""
    pending = [path]
    while pending:
        current = pending[-1]
        fd = openat2(
            root_fd,
            current,
            os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
            resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        )
        deeper = []
        try:
            with os.scandir(fd) as listing:
                for item in listing:
                    if item.is_dir(follow_symlinks=False):
                        deeper.append(_join(current, os.fsencode(item.name)))
                    else:
                        os.unlink(item.name, dir_fd=fd)
        finally:
            os.close(fd)
        if deeper:
            pending += deeper
        else:
            pending.pop()
            os.rmdir(current, dir_fd=root_fd)


def _split(path: bytes) -> list[bytes]:
    """The components of a name of the archive. Raises LayerError for one that leads upwards or can't be."""
    if len(path) > MAX_PATH_BYTES:
        raise LayerError(f"Cannot unpack {show(path)}: its name has {len(path)} bytes, the limit is {MAX_PATH_BYTES}")
    if b"\0" in path:
        raise LayerError(f"Cannot unpack {show(path)}: its name has a NUL in it")
    parts = [part for part in path.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise LayerError(f'Cannot unpack {show(path)}: its name has ".." in it')
    if len(parts) > MAX_DEPTH:
        raise LayerError(f"Cannot unpack {show(path)}: it is too deep")
    return parts


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _read_link(dir_fd: int, name: bytes) -> bytes | None:
    """A symlink's target, or None for anything else, also for nothing."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _make_special(entry: Entry, dir_fd: int, name: bytes) -> None:
    if entry.kind == SYMLINK:
        if b"\0" in entry.link:
            raise LayerError(f"Cannot unpack {show(entry.path)}: its target has a NUL in it")
        os.symlink(entry.link, name, dir_fd=dir_fd)
    elif entry.kind == FIFO:
        os.mkfifo(name, entry.mode & 0o777, dir_fd=dir_fd)
    else:
        os.mknod(name, stat.S_IFCHR | entry.mode & 0o777, os.makedev(*entry.device), dir_fd=dir_fd)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _clamp(mtime_ns: int) -> int:
    return min(max(mtime_ns, 0), MAX_MTIME_NS)
