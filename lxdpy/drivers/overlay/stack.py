"""Mount a stack of layers and a writable directory as one file system, unattached.

    RW/upper  RW/work      the container's own layer; on disk it holds real ids, like every layer
    lower 0                topmost
    ...
    lower N-1              base

With an id map, each directory enters the overlay through an idmapped mount, and the overlay is created by the mapped
root: otherwise it can't use its work directory and is read-only without a word. Where overlayfs takes its layers as
descriptors (kernel 6.13), nothing is attached anywhere. Older kernels take one page of path names: there the layers
are attached under short names in a mount namespace that the calling process enters and should soon end with.

Runs in the lean lifecycle worker. How the store keeps a layer ends here: (kind, path) pairs of base.LowerMount.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lxdpy.errors import UnsupportedError, WorkerError
from lxdpy.linux import mount
from lxdpy.linux.idmap import file_system_ids

DIRECTORY = "dir"
"""The kind of a layer that is a directory."""

MAX_LOWERS = 500
"""The kernel's limit."""

# An upper directory becomes a layer of other stacks, and of images: nothing in it may point to the stack it grew on.
_OPTIONS = (("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"))

# Before 6.5 overlayfs does not take part in fsconfig at all; before 6.13 fsconfig does not take a mount's descriptor,
# which is of the O_PATH kind, and overlayfs wants a name.
_NO_DESCRIPTORS = (errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


class Owner:
    """Who container root is on the host: a user namespace and the ids that its root has outside."""

    def __init__(self, userns_fd: int, base: int) -> None:
        self.userns_fd = userns_fd
        self.base = base


def mount_stack(
    lowers: Sequence[tuple[str, str]], rw: str, owner: Owner | None, scratch: str, *, by_name: bool = False
) -> int:
    """A descriptor of the detached mount of `lowers` (topmost first) below the layer in `rw`.

    `scratch` is an empty directory, used (in a new mount namespace) when the layers must have names: when the kernel
    takes no descriptors, or `by_name` says so. Raises WorkerError.
    """
    if len(lowers) > MAX_LOWERS:
        raise UnsupportedError(f"Cannot stack {len(lowers)} layers: overlayfs takes {MAX_LOWERS}")
    with ExitStack() as stack:
        try:
            if not lowers:
                return _clone(f"{rw}/upper", owner)
            rw_fd = _held(stack, _clone(rw, owner))
            layers = [_held(stack, _lower(kind, path, owner)) for kind, path in lowers]
            with _as_root(owner):
                result = None if by_name else _mount_by_descriptors(layers, rw_fd)
                if result is None:
                    result = _mount_by_names(layers, rw_fd, scratch)
        except OSError as exc:
            where = f" ({exc.filename})" if exc.filename else ""
            raise WorkerError(f"Cannot mount {len(lowers)} layers below {rw}: {exc.strerror}{where}") from exc
    if os.fstatvfs(result).f_flag & os.ST_RDONLY:
        os.close(result)
        raise WorkerError(f"Cannot mount {len(lowers)} layers below {rw}: the overlay is read-only")
    return result


def mount_lowers(lowers: Sequence[tuple[str, str]], scratch: str) -> int:
    """A descriptor of a detached mount that shows `lowers` (topmost first) as one, for reading, with the ids on disk.

    `scratch` as in `mount_stack`. Raises WorkerError.
    """
    if len(lowers) > MAX_LOWERS:
        raise UnsupportedError(f"Cannot stack {len(lowers)} layers: overlayfs takes {MAX_LOWERS}")
    with ExitStack() as stack:
        try:
            layers = [_held(stack, _lower(kind, path, None)) for kind, path in lowers]
            if len(layers) == 1:
                # Overlayfs wants two.
                return os.dup(layers[0])
            result = _mount_by_descriptors(layers, None)
            return _mount_by_names(layers, None, scratch) if result is None else result
        except OSError as exc:
            where = f" ({exc.filename})" if exc.filename else ""
            raise WorkerError(f"Cannot mount {len(lowers)} layers: {exc.strerror}{where}") from exc


def clone_file(path: str, owner: Owner | None) -> int:
    """A descriptor of a detached mount of one host file. The host's root, as its owner, is the container's root; a file
    that belongs to the container's ids already is shown as it is. Raises OSError."""
    shifted = owner is not None and os.stat(path).st_uid >= owner.base
    return _clone(path, None if shifted else owner)


def _lower(kind: str, path: str, owner: Owner | None) -> int:
    if kind != DIRECTORY:
        raise UnsupportedError(f"Cannot mount layer {path}: unknown kind {kind!r}")
    return _clone(path, owner)


def _clone(path: str, owner: Owner | None) -> int:
    """A detached mount of `path`, idmapped for `owner`."""
    fd = mount.open_tree(path)
    if owner is not None:
        try:
            mount.mount_setattr(fd, mount.MOUNT_ATTR_IDMAP, userns_fd=owner.userns_fd)
        except OSError as exc:
            os.close(fd)
            raise OSError(exc.errno, f"{exc.strerror}: the file system can't be idmapped", path) from exc
    return fd


def _mount_by_descriptors(layers: Sequence[int], rw_fd: int | None) -> int | None:
    """The overlay, or None when this kernel takes no descriptors of detached mounts as layers."""
    with ExitStack() as stack:
        fs = _held(stack, mount.fsopen("overlay"))
        mount.fsconfig(fs, mount.FSCONFIG_SET_STRING, "source", "lxdpy")
        try:
            for layer in layers:
                mount.fsconfig(fs, mount.FSCONFIG_SET_FD, "lowerdir+", None, layer)
        except OSError as exc:
            if exc.errno in _NO_DESCRIPTORS:
                return None
            raise
        if rw_fd is not None:
            upper = _held(stack, os.open("upper", os.O_PATH | os.O_CLOEXEC, dir_fd=rw_fd))
            work = _held(stack, os.open("work", os.O_PATH | os.O_CLOEXEC, dir_fd=rw_fd))
            mount.fsconfig(fs, mount.FSCONFIG_SET_FD, "upperdir", None, upper)
            mount.fsconfig(fs, mount.FSCONFIG_SET_FD, "workdir", None, work)
        for key, value in _OPTIONS:
            mount.fsconfig(fs, mount.FSCONFIG_SET_STRING, key, value)
        mount.fsconfig(fs, mount.FSCONFIG_CMD_CREATE)
        return mount.fsmount(fs)


def _mount_by_names(layers: Sequence[int], rw_fd: int | None, scratch: str) -> int:
    """The overlay by mount(2), its layers attached as `0`, `1`, ... on a tmpfs that only this process sees."""
    mount.unshare(mount.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
    mount.mount("lxdpy", scratch, "tmpfs", 0, "mode=755")
    os.chdir(scratch)
    for number, fd in enumerate(layers if rw_fd is None else [*layers, rw_fd]):
        os.mkdir(str(number))
        mount.move_mount(fd, str(number))
    rw = len(layers)
    options = ",".join(
        (
            "lowerdir=" + ":".join(str(number) for number in range(rw)),
            *((f"upperdir={rw}/upper", f"workdir={rw}/work") if rw_fd is not None else ()),
            *(f"{key}={value}" for key, value in _OPTIONS),
        )
    )
    os.mkdir("merged")
    mount.mount("lxdpy", "merged", "overlay", 0, options)
    return mount.open_tree("merged")


@contextmanager
def _as_root(owner: Owner | None) -> Iterator[None]:
    """Act on file systems as the container's root."""
    if owner is None:
        yield
        return
    with file_system_ids(owner.base, owner.base):
        yield


def _held(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
