"""Fit an unpacked layer onto the layers below it: the second phase, for what the first one deferred (tree.py).

deferred                      below there is      becomes
directory without an entry    a directory         mode, owner, attributes and times as below
                              a symlink           its content moves to where the symlink leads
                              something else      stays: 0755, root's
hardlink to a file below      the file            the file is copied up, and linked
                              nothing             LayerError
opaque root                   names               whiteouts and opaque directories for all of them

What is moved may be a symlink, and take the place of a directory that was looked at before. So every single step finds
the directory it works in anew, and follows no symlink to it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lxdpy.errors import LayerError
from lxdpy.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from lxdpy.workers.layers.lowers import Found, Lowers
from lxdpy.workers.layers.tar import show
from lxdpy.workers.layers.tree import (
    LAYERS_FAULT,
    MAX_DEPTH,
    MAX_SYMLINKS,
    OPAQUE,
    Deferred,
    is_allowed_xattr,
    remove_tree,
)

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_COPY_BYTES = 1 << 30


class Fit:
    """One layer, its root open as `root_fd`, on top of `lowers`. `spare_fd`: a directory beside it, for moves."""

    def __init__(self, root_fd: int, spare_fd: int, lowers: Lowers, max_bytes: int) -> None:
        self._root_fd = root_fd
        self._spare_fd = spare_fd
        self._lowers = lowers
        self._budget = max_bytes
        self._unsettled: set[bytes] = set()
        self._implied: set[bytes] = set()
        """Directories that have no entry here, settled or not."""
        self._moved: list[tuple[bytes, bytes]] = []
        self._merged: dict[bytes, bool] = {}
        self._times: dict[bytes, tuple[int, int]] = {}
        self.copied_entries = 0
        self.copied_bytes = 0

    def run(self, deferred: Deferred) -> None:
        """Do all that was deferred. Raises LayerError, and OSError for what went wrong."""
        try:
            self._run(deferred)
        except OSError as exc:
            if exc.errno not in LAYERS_FAULT:
                raise
            name = os.fsencode(exc.filename) if isinstance(exc.filename, str | bytes) else b""
            raise LayerError(f"Cannot unpack {show(name)} onto the layers below: {exc.strerror}") from exc

    def _run(self, deferred: Deferred) -> None:
        self._implied = set(deferred.directories)
        self._unsettled = set(deferred.directories)
        for path in deferred.directories:
            self._settle(self._current(path))
        # Merging two directories may leave one that was settled before it had come.
        while self._unsettled:
            self._settle(min(self._unsettled, key=len))
        for name, target in deferred.hardlinks:
            self._link(self._current(name), target)
        if deferred.opaque_root:
            self._hide_all()
        self._restore_times()

    # ---- directories

    def _settle(self, path: bytes) -> None:
        """Give a directory without an entry what it has below, or move its content to where it belongs."""
        if path not in self._unsettled:
            return
        self._unsettled.discard(path)
        below = self._below(path)
        if below is None:
            return
        if below.is_directory:
            self._copy_attributes(below, path)
        elif below.is_symlink:
            self._move(path, below.read_link())

    def _below(self, path: bytes) -> Found | None:
        """What the layers below have at `path`, as far as this layer's own entries let it be seen."""
        parent = path.rpartition(b"/")[0]
        return self._lowers.lookup(path) if not parent or self._is_merged(parent) else None

    def _is_merged(self, path: bytes) -> bool:
        """Whether what is below in directory `path` is seen in this layer's one."""
        merged = self._merged.get(path)
        if merged is None:
            below = self._below(path)
            status = self._status(path)
            merged = self._merged[path] = (
                below is not None
                and below.is_directory
                and (status is None or (stat.S_ISDIR(status.st_mode) and not self._is_opaque(path)))
            )
        return merged

    def _is_opaque(self, path: bytes) -> bool:
        fd = self._open_directory(path)
        try:
            return os.getxattr(fd, OPAQUE) == b"y"
        except OSError as exc:
            if exc.errno in (errno.ENODATA, errno.ENOTSUP):
                return False
            raise
        finally:
            os.close(fd)

    def _copy_attributes(self, below: Found, path: bytes) -> None:
        source, target = below.open(os.O_RDONLY | os.O_DIRECTORY), self._open_directory(path)
        try:
            _copy_owner_and_xattrs(source, target, below.status)
        finally:
            os.close(source)
            os.close(target)
        self._times[path] = below.status.st_mtime_ns, below.status.st_mtime_ns

    def _move(self, path: bytes, link: bytes) -> None:
        """Move what is in directory `path` to where the symlink that is there below leads."""
        parent = path.rpartition(b"/")[0]
        self._keep_times(parent)
        spare = b"moved-%d" % len(self._moved)
        self._moved.append((path, path))
        place = len(self._moved) - 1
        with self._at(path) as (fd, name):
            os.rename(name, spare, src_dir_fd=fd, dst_dir_fd=self._spare_fd)
        self._merged.clear()
        inside = path + b"/"
        implied = {known[len(inside) :] for known in self._implied if known.startswith(inside)}
        self._forget(path)
        target = self._resolve(parent, link)
        self._merge(spare, target, implied)
        self._moved[place] = path, target
        self._merged.clear()

    def _resolve(self, base: bytes, link: bytes) -> bytes:
        """Where a symlink in directory `base` leads, in this layer on top of those below; made here if need be."""
        path = b"" if link.startswith(b"/") else base
        ahead = [part for part in reversed(link.split(b"/")) if part and part != b"."]
        links = 0
        while ahead:
            part = ahead.pop()
            if part == b"..":
                path = path.rpartition(b"/")[0]
                continue
            candidate = _join(path, part)
            if candidate.count(b"/") >= MAX_DEPTH:
                raise LayerError(f"Cannot unpack into {show(base)}: it is too deep")
            self._settle(candidate)
            further = self._enter(candidate)
            if further is None:
                path = candidate
                continue
            links += 1
            if links > MAX_SYMLINKS:
                raise LayerError(f"Cannot unpack into {show(candidate)}: too many symlinks below")
            if further.startswith(b"/"):
                path = b""
            ahead.extend(part for part in reversed(further.split(b"/")) if part and part != b".")
        return path

    def _enter(self, path: bytes) -> bytes | None:
        """Have a directory at `path` in this layer; or the target, when it is a symlink here or below."""
        status = self._status(path)
        if status is not None and not _is_whiteout(status):
            if stat.S_ISDIR(status.st_mode):
                return None
            if stat.S_ISLNK(status.st_mode):
                return self._read_link(path)
            raise LayerError(f"Cannot unpack into {show(path)}: it is no directory")
        below = None if status is not None else self._below(path)
        if below is not None and below.is_symlink:
            return below.read_link()
        self._keep_times(path.rpartition(b"/")[0])
        with self._at(path) as (fd, name):
            if status is not None:
                os.unlink(name, dir_fd=fd)
            os.mkdir(name, 0o755, dir_fd=fd)
        self._times[path] = 0, 0
        self._implied.add(path)
        self._merged.clear()
        self.copied_entries += 1
        if below is not None and below.is_directory:
            self._copy_attributes(below, path)
        elif status is not None:
            self._set_opaque(path)
        return None

    def _merge(self, spare: bytes, target: bytes, implied: set[bytes]) -> None:
        """Move what is in directory `spare` (beside the layer) into directory `target`, and remove `spare`.

        `implied`: directories in `spare` that have no entry. Of two files the moved one stays, but no whiteout does.
        """
        pending = [b""]
        while pending:
            inside = pending.pop()
            source, destination = _join(spare, inside), _join(target, inside)
            self._keep_times(destination)
            fds = openat2(self._spare_fd, source, _DIRECTORY, resolve=_BENEATH), self._open_directory(destination)
            try:
                for name in sorted(os.fsencode(name) for name in os.listdir(fds[0])):
                    relative, new = _join(inside, name), _join(destination, name)
                    status = os.stat(name, dir_fd=fds[0], follow_symlinks=False)
                    there = self._status(new)
                    if there is not None and _is_whiteout(status):
                        continue
                    if there is not None and stat.S_ISDIR(there.st_mode):
                        if stat.S_ISDIR(status.st_mode):
                            if relative not in implied and new in self._implied:
                                self._take_attributes(_join(source, name), new, status)
                            pending.append(relative)
                            continue
                        remove_tree(self._root_fd, new)
                        self._forget(new)
                    elif there is not None:
                        os.unlink(name, dir_fd=fds[1])
                    os.rename(name, name, src_dir_fd=fds[0], dst_dir_fd=fds[1])
                    if stat.S_ISDIR(status.st_mode):
                        came = {known for known in implied if known == relative or known.startswith(relative + b"/")}
                        self._implied.update(_join(target, known) for known in came)
                        self._unsettled.update(_join(target, known) for known in came)
            finally:
                for fd in fds:
                    os.close(fd)
        remove_tree(self._spare_fd, spare)

    def _forget(self, path: bytes) -> None:
        """Directory `path` is gone, and all in it."""
        inside = path + b"/"
        self._implied = {known for known in self._implied if known != path and not known.startswith(inside)}
        self._unsettled &= self._implied

    def _take_attributes(self, old: bytes, new: bytes, status: os.stat_result) -> None:
        """Give directory `new` of the layer what the entry of directory `old` beside it said."""
        self._implied.discard(new)
        self._unsettled.discard(new)
        source, target = openat2(self._spare_fd, old, _DIRECTORY, resolve=_BENEATH), self._open_directory(new)
        try:
            _copy_owner_and_xattrs(source, target, status)
        finally:
            os.close(source)
            os.close(target)
        self._times[new] = status.st_mtime_ns, status.st_mtime_ns

    # ---- hardlinks

    def _link(self, path: bytes, target: bytes) -> None:
        """Make `path` a hardlink of `target`, which is copied up to its own place first if nothing is there."""
        parent, _, name = target.strip(b"/").rpartition(b"/")
        place = self._find(parent, name)
        if place is None:
            raise LayerError(f"Cannot unpack {show(path)}: it links to {show(target)}, which no layer has")
        source, found = place
        self._keep_times(path.rpartition(b"/")[0])
        if found is None:
            self._link_here(source, path)
            return
        status = self._status(source)
        if status is None:
            # Its directory may be nowhere in this layer yet.
            self._resolve(b"", b"/" + source.rpartition(b"/")[0])
            self._keep_times(source.rpartition(b"/")[0])
            self._copy_up(found, source)
            self._link_here(source, path)
        else:
            # The layer deletes the target: only the new name stays.
            self._copy_up(found, path)

    def _find(self, parent: bytes, name: bytes) -> tuple[bytes, Found | None] | None:
        """Where a hardlink's target is: its path, and what it is below unless it is here. None: nowhere."""
        ahead = [part for part in reversed(parent.split(b"/")) if part and part != b"."]
        path = b""
        links = 0
        while ahead:
            part = ahead.pop()
            if part == b"..":
                path = path.rpartition(b"/")[0]
                continue
            path = _join(path, part)
            status = self._status(path)
            link = None
            if status is None:
                below = self._below(path)
                if below is None:
                    return None
                link = below.read_link() if below.is_symlink else None
            elif stat.S_ISLNK(status.st_mode):
                link = self._read_link(path)
            if link is not None:
                links += 1
                if links > MAX_SYMLINKS:
                    return None
                path = b"" if link.startswith(b"/") else path.rpartition(b"/")[0]
                ahead.extend(part for part in reversed(link.split(b"/")) if part and part != b".")
        path = _join(path, name)
        status = self._status(path)
        if status is not None and not _is_whiteout(status):
            return None if stat.S_ISDIR(status.st_mode) else (path, None)
        below = self._below(path)
        return (path, below) if below is not None and not below.is_directory else None

    def _copy_up(self, found: Found, path: bytes) -> None:
        """Copy a file or symlink of the layers below to `path`."""
        with self._at(path) as (parent, name):
            self._copy(found, path, parent, name)

    def _copy(self, found: Found, path: bytes, parent: int, name: bytes) -> None:
        status = found.status
        self.copied_entries += 1
        if found.is_symlink:
            os.symlink(found.read_link(), name, dir_fd=parent)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
        elif stat.S_ISREG(status.st_mode):
            self.copied_bytes += status.st_size
            if self.copied_bytes > self._budget:
                raise LayerError(f"Cannot unpack {show(path)}: the layer is larger than the limit")
            source = found.open(os.O_RDONLY)
            target = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            try:
                while os.copy_file_range(source, target, _COPY_BYTES):
                    pass
                _copy_owner_and_xattrs(source, target, status)
            finally:
                os.close(source)
                os.close(target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=parent)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _link_here(self, source: bytes, path: bytes) -> None:
        with self._at(source) as (source_fd, source_name), self._at(path) as (fd, name):
            os.link(source_name, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)

    # ---- opaque root

    def _hide_all(self) -> None:
        """Hide every name that the layers below have in the root; overlayfs takes no opaque root."""
        self._keep_times(b"")
        for name in sorted(self._lowers.names()):
            status = self._status(name)
            if status is None:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._root_fd)
                os.utime(name, ns=(0, 0), dir_fd=self._root_fd, follow_symlinks=False)
            elif stat.S_ISDIR(status.st_mode):
                self._set_opaque(name)

    # ---- helpers

    def _current(self, path: bytes) -> bytes:
        """Where `path` is after all moves so far."""
        for old, new in self._moved:
            if path == old:
                path = new
            elif path.startswith(old + b"/"):
                path = _join(new, path[len(old) + 1 :])
        return path

    @contextmanager
    def _at(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The directory that `path` is in, and its name there. Raises OSError where a symlink leads to it."""
        parent, _, name = path.rpartition(b"/")
        if not parent:
            yield self._root_fd, name
            return
        fd = openat2(self._root_fd, parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_BENEATH)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _status(self, path: bytes) -> os.stat_result | None:
        """What this layer has at `path`; nothing below a symlink."""
        if not path:
            return os.fstat(self._root_fd)
        try:
            with self._at(path) as (fd, name):
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def _read_link(self, path: bytes) -> bytes:
        with self._at(path) as (fd, name):
            return os.readlink(name, dir_fd=fd)

    def _open_directory(self, path: bytes) -> int:
        return openat2(self._root_fd, path or b".", _DIRECTORY, resolve=_BENEATH)

    def _set_opaque(self, path: bytes) -> None:
        fd = self._open_directory(path)
        try:
            os.setxattr(fd, OPAQUE, b"y")
        finally:
            os.close(fd)

    def _keep_times(self, path: bytes) -> None:
        """Note a directory's times before something in it changes, to set them again at the end."""
        if path not in self._times and (status := self._status(path)) is not None:
            self._times[path] = status.st_mtime_ns, status.st_mtime_ns

    def _restore_times(self) -> None:
        for path, times in sorted(self._times.items(), reverse=True):
            if not path:
                os.utime(self._root_fd, ns=times)
            elif self._status(path) is not None:
                with self._at(path) as (fd, name):
                    os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)


def open_layers(paths: Sequence[str]) -> list[int]:
    """Descriptors of layers' root directories. Raises OSError."""
    return [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC) for path in paths]


def _copy_owner_and_xattrs(source: int, target: int, status: os.stat_result) -> None:
    """As tree.py sets them: owner, then mode, then attributes."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if is_allowed_xattr(os.fsencode(name)):
            os.setxattr(target, name, os.getxattr(source, name))


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _join(directory: bytes, name: bytes) -> bytes:
    """Either may be the root, b""."""
    return directory + b"/" + name if directory and name else directory or name
