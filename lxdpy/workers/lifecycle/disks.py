"""Disk devices: directories and files of the host in containers, at their start and while they run.

A disk is a detached mount of its source, idmapped if its ids are to be the container's own.

At the start it is attached where its path leads in the container, to see whether all is well, and then laid aside
(DIRECTORY/disks/N, in the monitor's namespace alone), from where liblxc binds it: what a container's namespace inherits
from the monitor's can't be unmounted there any more by anybody, and a disk may be taken away.

Later it is attached in the container's own namespace. There its root could make a read-only mount writable again, so
such a mount goes through a copy that the kernel locks, and keeps the locks; so do those that liblxc binds.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from lxdpy.drivers.overlay.stack import Owner
from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.linux import dumpable, mount
from lxdpy.linux.idmap import host_id
from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.zygote import Channel


class Disk:
    """base.DiskSpec, as this side reads it."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"Expected a disk, got {value!r}")
        self.name = str(value["name"])
        self.source = str(value["source"])
        self.target = "/" + str(value["target"]).strip("/")
        self.readonly = value["readonly"] is True
        self.recursive = value["recursive"] is True
        self.shifted = value["shifted"] is True
        self.required = value["required"] is True


def parse(value: object) -> list[Disk]:
    """The disks of a request, those first whose targets others may lie below."""
    if not isinstance(value, list):
        raise ValueError(f"Expected a list of disks, got {value!r}")
    return sorted((Disk(each) for each in value), key=lambda disk: disk.target)


class Shown:
    """A disk that is attached below the root file system of a container that is about to start."""

    def __init__(self, disk: Disk, fd: int, path: str) -> None:
        self.disk = disk
        self.fd = fd
        self.path = path
        """Where it is in the container, with no link in it."""


def show(disks: Sequence[Disk], rootfs: Rootfs, root: str, owner: Owner | None, stack: ExitStack) -> list[Shown]:
    """Attach disks below `rootfs`, which is at path `root` in the caller's mount namespace; `stack` closes descriptors.

    A missing source may be no reason to fail. Raises InvalidRequestError, WorkerError.
    """
    shown = []
    for disk in disks:
        fd = prepare(disk, owner)
        if fd is not None:
            stack.callback(os.close, fd)
            target = find_target(disk, fd, rootfs)
            try:
                path = os.readlink(f"/proc/self/fd/{target}").removeprefix(root)
                move(disk, fd, target)
            finally:
                os.close(target)
            shown.append(Shown(disk, fd, path))
    return shown


def lay_aside(shown: Sequence[Shown], directory: str) -> list[tuple[str, str]]:
    """Move disks to where liblxc finds them; the configuration items with which it does. Raises OSError."""
    if not shown:
        return []
    aside = f"{directory}/disks"
    os.makedirs(aside, mode=0o711, exist_ok=True)
    mount.mount("lxdpy", aside, "tmpfs", 0, "mode=711,size=1m")
    items = []
    # What lies in another disk goes first, and comes back last.
    for number, each in reversed(list(enumerate(shown))):
        place = f"{aside}/{number}"
        kind = "dir" if stat.S_ISDIR(os.stat(each.fd).st_mode) else "file"
        if kind == "dir":
            os.mkdir(place, 0o755)
        else:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        mount.move_mount(each.fd, place)
        entry = f"{_escaped(place)} {_escaped(each.path.lstrip('/'))} none rbind,create={kind} 0 0"
        items.append(("lxc.mount.entry", entry))
    return items[::-1]


def _escaped(path: str) -> str:
    """As fstab(5) has it."""
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in path)


def prepare(disk: Disk, owner: Owner | None, locked: Owner | None = None) -> int | None:
    """The detached mount of a disk; None when its source is missing, and need not be there. Raises
    InvalidRequestError, WorkerError."""
    flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | (mount.AT_RECURSIVE if disk.recursive else 0)
    try:
        fd = mount.open_tree(disk.source, flags)
    except FileNotFoundError:
        if not disk.required:
            return None
        raise InvalidRequestError(f'Missing source path "{disk.source}" for disk "{disk.name}"') from None
    except OSError as exc:
        raise WorkerError(f'Cannot use source "{disk.source}" of disk "{disk.name}": {exc.strerror}') from exc
    try:
        if stat.S_ISBLK(os.stat(fd).st_mode):
            raise InvalidRequestError(f'Cannot show disk "{disk.name}": {disk.source} is a block device')
        attributes = mount.MOUNT_ATTR_RDONLY if disk.readonly else 0
        userns_fd = 0
        if owner is not None and disk.shifted:
            attributes |= mount.MOUNT_ATTR_IDMAP
            userns_fd = owner.userns_fd
        # What is mounted below the source later is not shown, and nothing of the container's reaches the host.
        mount.mount_setattr(fd, attributes, userns_fd=userns_fd, propagation=mount.MS_PRIVATE, recursive=disk.recursive)
        if locked is not None and disk.readonly:
            plain, fd = fd, _with_locks(fd, locked, recursive=disk.recursive)
            os.close(plain)
    except OSError as exc:
        os.close(fd)
        what = "its file system can't be idmapped: " if disk.shifted and exc.errno == errno.EINVAL else ""
        raise WorkerError(f'Cannot show {disk.source} as disk "{disk.name}": {what}{exc.strerror}') from exc
    except BaseException:
        os.close(fd)
        raise
    return fd


def find_target(disk: Disk, fd: int, rootfs: Rootfs) -> int:
    """What a disk is to be mounted on, made if missing. Raises InvalidRequestError."""
    try:
        if stat.S_ISDIR(os.stat(fd).st_mode):
            return rootfs.make_directory(disk.target)
        return rootfs.make_file(disk.target)
    except InvalidRequestError as exc:
        raise InvalidRequestError(f'Cannot show disk "{disk.name}": {exc}') from exc


def move(disk: Disk, fd: int, target: int) -> None:
    """Attach a detached mount. Raises WorkerError."""
    try:
        mount.move_mount(fd, target)
    except OSError as exc:
        raise WorkerError(f'Cannot show disk "{disk.name}" at {disk.target}: {exc.strerror}') from exc


def _with_locks(fd: int, owner: Owner, *, recursive: bool) -> int:
    """A copy of a detached mount whose attributes nobody below the host's user namespace can change."""
    scratch = "/proc" if stat.S_ISDIR(os.stat(fd).st_mode) else "/proc/version"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # A mount is copied into a less privileged namespace with its locks, and keeps them from then on.
                mount.unshare(mount.CLONE_NEWNS)
                mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
                # On something that exists everywhere, and that nobody looks for in this short-lived namespace.
                mount.move_mount(fd, scratch)
                mount.setns(owner.userns_fd, mount.CLONE_NEWUSER)
                mount.unshare(mount.CLONE_NEWNS)
                flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | (mount.AT_RECURSIVE if recursive else 0)
                socket.send_fds(theirs, [b"x"], [mount.open_tree(scratch, flags)])
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        _, found, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(pid, 0)
    if not found:
        raise OSError(errno.EPERM, "a read-only mount can't be locked")
    os.set_inheritable(found[0], False)
    return found[0]


def change(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Do a disks job: take disks out of a running container, and show others.

    `request` has "init_pid", and the lists "detach" and "attach". When something fails, what was done is taken back.
    Raises InvalidRequestError, WorkerError.
    """
    init_pid = int(str(request["init_pid"]))
    owner = _owner_of(init_pid)
    old, new = parse(request["detach"]), parse(request["attach"])
    root_fd = os.open(f"/proc/{init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    rootfs = Rootfs(root_fd, owner)
    # Everything that takes the host's files is done before this process is among the container's.
    prepared = [(disk, prepare(disk, owner, owner)) for disk in new]
    restore = [(disk, _again(disk, owner)) for disk in old]
    identities = {disk.name: _identity(disk.source) for disk in old}
    namespace = os.open(f"/proc/{init_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    own_fds = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sys.meta_path.clear()
    dumpable.seal()
    mount.setns(namespace, mount.CLONE_NEWNS)
    done: list[tuple[Disk, int | None, bool]] = []
    try:
        for disk, spare in reversed(restore):
            if _detach(disk, rootfs, own_fds, identities[disk.name]):
                done.append((disk, spare, False))
        for disk, fd in prepared:
            if fd is not None:
                move(disk, fd, find_target(disk, fd, rootfs))
                done.append((disk, None, True))
    except BaseException:
        for disk, spare, shown in reversed(done):
            if shown:
                _detach(disk, rootfs, own_fds, None)
            elif spare is not None:
                move(disk, spare, find_target(disk, spare, rootfs))
        raise
    channel.send({"changed": True})


def _owner_of(init_pid: int) -> Owner | None:
    """Who a running container's root is: by its namespace, as its configuration may have changed since its start."""
    base = host_id(f"/proc/{init_pid}/uid_map", 0)
    if base is None or base == 0:
        return None
    return Owner(os.open(f"/proc/{init_pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC), base)


def _again(disk: Disk, owner: Owner | None) -> int | None:
    """A mount to put in place again should something go wrong; None when its source is gone."""
    try:
        return prepare(disk, owner, owner)
    except (InvalidRequestError, WorkerError):
        return None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _detach(disk: Disk, rootfs: Rootfs, own_fds: int, identity: tuple[int, int] | None) -> bool:
    """Unmount a disk where it was shown; False when it is not there any more: the container may have unmounted it."""
    try:
        fd = rootfs.open(disk.target, os.O_PATH)
    except OSError:
        return False
    try:
        found = os.stat(fd)
        if identity is not None and (found.st_dev, found.st_ino) != identity:
            return False
        # The name that leads there in this namespace, with no link in it. Where the container changes that meanwhile,
        # another mount of its own goes.
        path = os.readlink(str(fd), dir_fd=own_fds)
        mount.umount2(path, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            return False
        raise WorkerError(f'Cannot take disk "{disk.name}" away: {exc.strerror}') from exc
    finally:
        os.close(fd)
    return True
