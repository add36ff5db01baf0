"""A file session: one process that looks at and changes the files of one instance for the daemon.

    running     in the container's own mount and user namespaces, as root there: what container root may not do,
                this process may not do either, so links that it laid lead nowhere new; ids need no shift
    stopped     in a mount of its layer stack that nobody else sees; disk holds real ids

Requests are answered one after the other. Data do not come through here: the daemon gets descriptors. What is in the
container is hostile: paths are resolved within its root, and nothing but regular files and directories is ever opened.
What could keep the daemon waiting in a read is not given to it: this process can be killed, a thread of its can not.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable

from lxdpy import errors
from lxdpy.drivers.overlay.stack import mount_stack
from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, UnsupportedError
from lxdpy.linux import process
from lxdpy.linux.mount import CLONE_NEWNS, CLONE_NEWUSER, setns
from lxdpy.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from lxdpy.linux.statfs import FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, file_system_type
from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.zygote import Channel

MAX_NAMES = 250_000
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
_OPEN = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | _OPEN
_ALL: tuple[str, ...] = ("uid", "gid", "mode")

_ERRORS = {
    errno.ENOENT: "NotFoundError",
    errno.ENOTDIR: "NotFoundError",
    errno.EEXIST: "ConflictError",
    errno.ENOSPC: "NoSpaceError",
    errno.EDQUOT: "NoSpaceError",
    errno.EACCES: "AccessDeniedError",
    errno.EPERM: "AccessDeniedError",
    errno.EROFS: "AccessDeniedError",
    errno.ENOTEMPTY: "InvalidRequestError",
    errno.EISDIR: "InvalidRequestError",
    errno.EBUSY: "InvalidRequestError",
    errno.EINVAL: "InvalidRequestError",
    errno.ELOOP: "InvalidRequestError",
    errno.ENAMETOOLONG: "InvalidRequestError",
    errno.ETXTBSY: "InvalidRequestError",
}

Answer = tuple[dict[str, object], list[int]]


def files(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Do a files job: `request` says where the root file system is; fds are a running one's pidfd of init.

    Sends {} once it is there, and then an answer to each request until the daemon closes the channel. A request that
    fails is answered with {"error", "message"}; that is not the session's end.
    """
    # Of the host's /proc: behind the next step there may be another one.
    own_fds = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if "init_pid" in request:
        root_fd, device = _running_root(int(str(request["init_pid"])), str(request["directory"]), fds)
    else:
        root_fd = _stopped_root(request)
        device = os.fstat(root_fd).st_dev
    tree = Tree(root_fd, own_fds, device)
    channel.send({})
    while (received := channel.receive()) is not None:
        message, _ = received
        try:
            answer, opened = tree.answer(message)
        except LxdpyError as exc:
            channel.send({"error": type(exc).__name__, "message": str(exc)})
            continue
        except Exception as exc:  # noqa: BLE001 - a traceback would be read from files of the container
            channel.send({"error": "WorkerError", "message": f"{type(exc).__name__}: {exc}"})
            return
        try:
            channel.send(answer, opened)
        finally:
            for fd in opened:
                os.close(fd)


def _running_root(init_pid: int, directory: str, fds: list[int]) -> tuple[int, int]:
    """The container's root, and the device of its layers, which its init may have left for another root; this process
    enters the container's mounts, and becomes root of its user namespace.

    From another mount namespace a directory could be removed on which the container has something mounted.
    """
    (pidfd,) = fds
    root_fd = os.open(f"/proc/{init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts_fd = os.open(f"/proc/{init_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    userns_fd = os.open(f"/proc/{init_pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # As its monitor sees it, in whose namespace it was attached.
        device = os.stat(f"/proc/{process.parent(init_pid)}/root{directory}/rootfs").st_dev
        # Still alive, so all are of the process that was meant.
        signal.pidfd_send_signal(pidfd, 0)
        own_userns = os.stat("/proc/self/ns/user")
        # Nothing may be imported from what is there now.
        sys.meta_path.clear()
        setns(mounts_fd, CLONE_NEWNS)
        if not os.path.samestat(os.fstat(userns_fd), own_userns):
            setns(userns_fd, CLONE_NEWUSER)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
    finally:
        os.close(userns_fd)
        os.close(mounts_fd)
        os.close(pidfd)
    return root_fd, device


def _stopped_root(request: dict[str, object]) -> int:
    """A mount of the layer stack; `mount_by_name` in the request has it as on old kernels."""
    lowers = request["lowers"]
    if not isinstance(lowers, list):
        raise ValueError("Malformed files request")
    return mount_stack(
        [(str(kind), str(path)) for kind, path in lowers],
        str(request["rw"]),
        None,
        str(request["scratch"]),
        by_name=request.get("mount_by_name") is True,
    )


class Tree:
    """The files below one root."""

    def __init__(self, root_fd: int, own_fds: int, device: int) -> None:
        """`own_fds` is a descriptor of /proc/self/fd, `device` what files of the root's layers are on."""
        self._own_fds = own_fds
        self._rootfs = Rootfs(root_fd, None)
        self._device = device
        self._operations: dict[object, Callable[[str, dict[str, object]], Answer]] = {
            "status": self._status,
            "open": self._open,
            "write": self._write,
            "directory": self._directory,
            "symlink": self._symlink,
            "delete": self._delete,
        }
        os.umask(0)

    def answer(self, message: dict[str, object]) -> Answer:
        """Do what a request asks. Raises LxdpyError, which names the path and the reason."""
        verb, path = message["op"], str(message["path"])
        try:
            return self._operations[verb](path, message)
        except OSError as exc:
            kind = getattr(errors, _ERRORS.get(exc.errno or 0, "WorkerError"))
            raise kind(f'Cannot {_VERBS[verb]} "{_shown(path)}": {exc.strerror}') from exc

    def _status(self, path: str, message: dict[str, object]) -> Answer:
        """{"status"} of what is at the path, a link not followed."""
        found = self._find(path)
        try:
            return {"status": _render(os.fstat(found))}, []
        finally:
            os.close(found)

    def _open(self, path: str, message: dict[str, object]) -> Answer:
        """{"status"} and the file's descriptor, a directory's "names" or a link's "target"."""
        found = self._find(path)
        try:
            status = os.fstat(found)
            answer: dict[str, object] = {"status": _render(status)}
            if stat.S_ISLNK(status.st_mode):
                answer["target"] = os.readlink("", dir_fd=found)
                return answer, []
            fd = self._reopen(found, path, os.O_RDONLY)
        finally:
            os.close(found)
        if not stat.S_ISDIR(status.st_mode):
            return answer, [fd]
        try:
            answer["names"] = _names(fd, path)
        finally:
            os.close(fd)
        return answer, []

    def _write(self, path: str, message: dict[str, object]) -> Answer:
        """A descriptor to write to and whether the file is "new"; links are followed.

        What exists keeps owner and mode, except what "modify" lists.
        """
        append = message["append"] is True
        try:
            found = self._rootfs.open(path, os.O_PATH)
        except FileNotFoundError:
            if append:
                raise
            return self._create(path, message)
        try:
            if stat.S_ISDIR(os.fstat(found).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            fd = self._reopen(found, path, os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC))
        finally:
            os.close(found)
        try:
            _adorn(fd, message, _texts(message["modify"]))
        except BaseException:
            os.close(fd)
            raise
        return {"new": False}, [fd]

    def _create(self, path: str, message: dict[str, object]) -> Answer:
        fd = self._rootfs.open(path, os.O_WRONLY | os.O_CREAT | _OPEN, 0o600)
        try:
            # The container may have been quicker, and put something else there.
            self._check_regular(fd, path)
            _adorn(fd, {**message, "mode": 0o644 if message["mode"] is None else message["mode"]}, _ALL)
        except BaseException:
            os.close(fd)
            raise
        return {"new": True}, [fd]

    def _directory(self, path: str, message: dict[str, object]) -> Answer:
        """Make a directory; one that is there is left as it is, except for what "modify" lists."""
        above, name = self._above(path)
        try:
            try:
                os.mkdir(name, 0o700, dir_fd=above)
                new, changes = True, _ALL
                fd = openat2(above, name, _DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            except FileExistsError:
                new, changes = False, _texts(message["modify"])
                fd = self._existing_directory(path)
            try:
                _adorn(fd, {**message, "mode": 0o750 if message["mode"] is None else message["mode"]}, changes)
                _set_times(fd, message)
            finally:
                os.close(fd)
        finally:
            os.close(above)
        return {"new": new}, []

    def _existing_directory(self, path: str) -> int:
        try:
            return self._rootfs.open(path, _DIRECTORY)
        except OSError as exc:
            raise ConflictError(f'Cannot make directory "{_shown(path)}": something else is there') from exc

    def _symlink(self, path: str, message: dict[str, object]) -> Answer:
        """Make a symbolic link; the same one may be there."""
        target = str(message["target"])
        above, name = self._above(path)
        new = True
        try:
            try:
                os.symlink(target, name, dir_fd=above)
            except FileExistsError:
                if not _is_link(above, name, target):
                    raise
                new = False
            if new:
                uid, gid = _id(message["uid"]), _id(message["gid"])
                os.chown(name, uid, gid, dir_fd=above, follow_symlinks=False)
            if (modified := message["modified"]) is not None:
                times = (int(str(modified)), int(str(modified)))
                os.utime(name, ns=times, dir_fd=above, follow_symlinks=False)
        finally:
            os.close(above)
        return {"new": new}, []

    def _delete(self, path: str, message: dict[str, object]) -> Answer:
        """Delete a file or an empty directory."""
        above, name = self._above(path)
        try:
            try:
                os.unlink(name, dir_fd=above)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=above)
        finally:
            os.close(above)
        return {}, []

    def _find(self, path: str) -> int:
        """An O_PATH descriptor of what is at `path`; a link at its end is not followed."""
        return self._rootfs.open(path.rstrip("/"), os.O_PATH | os.O_NOFOLLOW)

    def _above(self, path: str) -> tuple[int, str]:
        """The directory in which the last part of `path` is, and that part."""
        head, name = os.path.split(path.rstrip("/"))
        if name in ("", ".", ".."):
            raise InvalidRequestError(f'Cannot change "{_shown(path)}": not the path of a file in a directory')
        return self._rootfs.open(head, os.O_PATH | os.O_DIRECTORY), name

    def _reopen(self, found: int, path: str, flags: int) -> int:
        """Open what an O_PATH descriptor holds, once it is known to be harmless."""
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            self._check_regular(found, path)
        return os.open(str(found), flags | _OPEN, dir_fd=self._own_fds)

    def _check_regular(self, fd: int, path: str) -> None:
        """Raises InvalidRequestError for a device or the like, as opening one may act, or wait for ever;
        UnsupportedError for a file whose reader a process of the container could keep waiting."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequestError(f'Cannot open "{_shown(path)}": it is a {_kind(status.st_mode)}')
        kind = file_system_type(fd)
        if kind == FUSE_SUPER_MAGIC:
            raise UnsupportedError(f'Cannot open "{_shown(path)}": it is on a FUSE file system')
        # The root's layers are all on one file system, so that its files are of its own device.
        if kind == OVERLAYFS_SUPER_MAGIC and status.st_dev != self._device:
            raise UnsupportedError(
                f'Cannot open "{_shown(path)}": it is on an overlay other than the root, which may stand on FUSE'
            )


_VERBS: dict[object, str] = {
    "status": "look at",
    "open": "read",
    "write": "write",
    "directory": "make directory",
    "symlink": "make symbolic link",
    "delete": "delete",
}


def _names(fd: int, path: str) -> list[str]:
    """A directory's entries. Raises InvalidRequestError when a container has made so many that they would not fit into
    the daemon's memory."""
    names = []
    with os.scandir(fd) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_NAMES:
                raise InvalidRequestError(f'Cannot list "{_shown(path)}": it has more than {MAX_NAMES} entries')
    return sorted(names)


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "named pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _adorn(fd: int, message: dict[str, object], changes: tuple[str, ...]) -> None:
    """Give a file the owner and mode of the request, those in `changes`."""
    uid = _id(message["uid"]) if "uid" in changes else -1
    gid = _id(message["gid"]) if "gid" in changes else -1
    if uid >= 0 or gid >= 0:
        os.fchown(fd, uid, gid)
    if "mode" in changes and (mode := message["mode"]) is not None:
        os.fchmod(fd, int(str(mode)))


def _set_times(fd: int, message: dict[str, object]) -> None:
    if (modified := message["modified"]) is not None:
        os.utime(fd, ns=(int(str(modified)), int(str(modified))))


def _is_link(above: int, name: str, target: str) -> bool:
    try:
        return os.readlink(name, dir_fd=above) == target
    except OSError:
        return False


def _render(status: os.stat_result) -> dict[str, object]:
    """base.FileStatus."""
    return {
        "kind": _KINDS.get(stat.S_IFMT(status.st_mode), _kind(status.st_mode)),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mode": stat.S_IMODE(status.st_mode),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
    }


def _id(value: object) -> int:
    return -1 if value is None else int(str(value))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(entry) for entry in value) if isinstance(value, list) else ()


def _shown(path: str) -> str:
    """A path as error texts show it: on one line, and valid Unicode."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\n", "\\n")
