"""Pack an instance's root file system, and what an image holds beside it, into one file of LXD's kind.

    metadata.yaml   templates/NAME   oci.json (of an app)   rootfs/...      pax, whole seconds, numeric owners

The layers are mounted read-only in no place at all; nobody writes to them meanwhile. What a tar can't hold (sockets) is
left out, and so are extended attributes with odd names. Hardlinks stay hardlinks; holes are filled.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress

from lxdpy.drivers.overlay.stack import mount_lowers
from lxdpy.drivers.store.messages import Packed, PackRequest
from lxdpy.errors import LayerError
from lxdpy.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from lxdpy.workers.layers.compress import Output
from lxdpy.workers.layers.confine import confine
from lxdpy.workers.layers.squashfs import SquashfsWriter
from lxdpy.workers.layers.tree import is_allowed_xattr

_BLOCK = tarfile.BLOCKSIZE
_PIECE_BYTES = 1 << 20
NO_LIMIT = 1 << 62
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_SQUASHFS = "squashfs"

Write = Callable[[bytes], None]


def pack(request: PackRequest, confined: Callable[[], None], progress: Callable[[int], None]) -> Packed:
    """Do the job; `confined` is called when threads may be started, and `progress` with the bytes that are in.

    Raises UnsupportedError, LayerError (what no image can hold), OSError.
    """
    scratch = f"{request.directory}/scratch"
    os.mkdir(scratch)
    root_fd = mount_lowers(request.lowers, scratch)
    templates = read_templates(request.templates)
    path = f"{request.directory}/image"
    out_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    squashfs = SquashfsWriter(path, out_fd) if request.compression == _SQUASHFS else None
    directory_fd = os.open(request.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    confine(directory_fd, NO_LIMIT)
    confined()
    if squashfs is not None:
        Tar(squashfs.write, progress).image(request, templates, root_fd)
        return Packed(*squashfs.finish())
    output = Output(out_fd, request.compression, request.level)
    Tar(output.write, progress).image(request, templates, root_fd)
    return Packed(output.finish(), output.size)


def read_templates(directory: str | None) -> list[tuple[str, bytes]]:
    """Names and contents of an instance's templates."""
    found = []
    if directory is not None:
        with suppress(FileNotFoundError), os.scandir(directory) as listing:
            for item in sorted(listing, key=lambda item: item.name):
                if item.is_file(follow_symlinks=False) and not item.name.startswith("."):
                    with open(os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                        found.append((item.name, file.read()))
    return found


class Tar:
    """A tar stream that goes to `write`."""

    def __init__(self, write: Write, progress: Callable[[int], None]) -> None:
        self._write = write
        self._progress = progress
        self._count = 0
        # Of files with several names, the first one.
        self._links: dict[tuple[int, int], str] = {}

    def image(self, request: PackRequest, templates: Sequence[tuple[str, bytes]], root_fd: int) -> None:
        """All of an image."""
        self.text("metadata.yaml", request.metadata.encode(), request.time)
        self.templates("", templates, request.time)
        if request.config is not None:
            self.text("oci.json", request.config.encode(), request.time)
        self.tree("rootfs/", root_fd)
        self.end()

    def templates(self, prefix: str, templates: Sequence[tuple[str, bytes]], mtime: int) -> None:
        """A directory of templates, if there are any."""
        if templates:
            self.directory(f"{prefix}templates/", 0o755, mtime)
        for name, content in templates:
            self.text(f"{prefix}templates/{name}", content, mtime)

    def directory(self, name: str, mode: int, mtime: int) -> None:
        """A directory of root's."""
        self._header(_info(os.fsencode(name), stat.S_IFDIR | mode, mtime), [])

    def end(self) -> None:
        """The end of the archive."""
        self._put(bytes(2 * _BLOCK))

    def text(self, name: str, content: bytes, mtime: int) -> None:
        """A file of root's."""
        info = _info(os.fsencode(name), stat.S_IFREG | 0o644, mtime)
        info.size = len(content)
        self._header(info, [])
        self._put(content + bytes(-len(content) % _BLOCK))

    def tree(self, place: str, root_fd: int) -> None:
        """A tree, as PLACE (which ends with a slash): each directory, what is in it, and then the directories in it."""
        top = os.fsencode(place)
        # Of another tree, whose numbers may be the same.
        self._links.clear()
        pending = [b""]
        while pending:
            path = pending.pop()
            fd = _open(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._header(_info_of(top + path, os.fstat(fd)), _xattrs(fd))
                names = sorted(os.fsencode(name) for name in os.listdir(fd))
                deeper = []
                for name in names:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    inner = path + b"/" + name if path else name
                    if stat.S_ISDIR(status.st_mode):
                        deeper.append(inner)
                    else:
                        self._entry(fd, name, top + inner, status)
            finally:
                os.close(fd)
            pending += reversed(deeper)

    def _entry(self, dir_fd: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        """What is no directory."""
        mode = status.st_mode
        info = _info_of(path, status)
        if status.st_nlink > 1:
            known = self._links.setdefault((status.st_dev, status.st_ino), info.name)
            if known != info.name:
                info.type, info.linkname = tarfile.LNKTYPE, known
                self._header(info, [])
                return
        if stat.S_ISREG(mode):
            fd = openat2(dir_fd, name, os.O_RDONLY | os.O_CLOEXEC, resolve=_BENEATH)
            try:
                self._file(fd, info)
            finally:
                os.close(fd)
        elif stat.S_ISLNK(mode):
            info.linkname = os.fsdecode(os.readlink(name, dir_fd=dir_fd))
            self._header(info, [])
        elif not stat.S_ISSOCK(mode):
            self._header(info, [])

    def _file(self, fd: int, info: tarfile.TarInfo) -> None:
        info.size = left = os.fstat(fd).st_size
        self._header(info, _xattrs(fd))
        while left:
            data = os.read(fd, min(left, _PIECE_BYTES))
            if not data:
                raise LayerError(f"Cannot pack {info.name!r:.200}: it has become shorter meanwhile")
            left -= len(data)
            self._put(data)
        self._put(bytes(-info.size % _BLOCK))

    def _header(self, info: tarfile.TarInfo, xattrs: Sequence[tuple[str, bytes]]) -> None:
        info.pax_headers = {f"SCHILY.xattr.{name}": os.fsdecode(value) for name, value in xattrs}
        self._put(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._count += len(data)
        self._progress(self._count)


def _open(root_fd: int, path: bytes, flags: int) -> int:
    if not path:
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=root_fd)
    return openat2(root_fd, path, flags | os.O_CLOEXEC, resolve=_BENEATH)


def _info(name: bytes, mode: int, mtime: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(os.fsdecode(name))
    info.mode = stat.S_IMODE(mode)
    info.mtime = mtime
    info.type = _TYPES[stat.S_IFMT(mode)]
    return info


def _info_of(name: bytes, status: os.stat_result) -> tarfile.TarInfo:
    info = _info(name, status.st_mode, int(status.st_mtime))
    info.uid, info.gid = status.st_uid, status.st_gid
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return info


_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    # Never written.
    stat.S_IFSOCK: tarfile.REGTYPE,
}


def _xattrs(fd: int) -> list[tuple[str, bytes]]:
    """Those that an image may have, and whose names a tar can hold: in UTF-8, and before the first `=`."""
    found = []
    for name in sorted(os.listxattr(fd)):
        if is_allowed_xattr(os.fsencode(name)) and "=" not in name and _is_text(name):
            found.append((name, os.getxattr(fd, name)))
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
