"""Files of an instance, kept in a directory of this host."""

import os
import stat
from pathlib import Path

from lxdpy.drivers.base import FileAttributes, FileStatus, FoundFile, WritableFile
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, NotFoundError, WorkerError

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


class FakeFiles:
    """base.FileSession on `root`; ids are not kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        self.closed = False
        self.stuck = False

    def _at(self, path: str) -> Path:
        if self.closed:
            raise WorkerError("Cannot reach the files: the session has ended")
        return self.root / os.path.normpath("/" + path).lstrip("/")

    async def status(self, path: str) -> FileStatus:
        try:
            found = os.lstat(self._at(path))
        except (FileNotFoundError, NotADirectoryError, OSError) as exc:
            raise NotFoundError(f'Cannot look at "{path}": {exc}') from exc
        kind = _KINDS[stat.S_IFMT(found.st_mode)]
        return FileStatus(kind, 0, 0, stat.S_IMODE(found.st_mode), found.st_size, found.st_mtime_ns)

    async def open(self, path: str) -> FoundFile:
        status = await self.status(path)
        at = self._at(path)
        if status.kind == "directory":
            return FoundFile(status, names=tuple(sorted(os.listdir(at))))
        if status.kind == "symlink":
            return FoundFile(status, target=os.readlink(at))
        return FoundFile(status, fd=os.open(at, os.O_RDONLY))

    async def write(self, path: str, attributes: FileAttributes, *, append: bool) -> WritableFile:
        at = self._at(path)
        if at.is_dir():
            raise InvalidRequestError(f'Cannot write "{path}": Is a directory')
        new = not at.exists()
        if new and append:
            raise NotFoundError(f'Cannot write "{path}": No such file or directory')
        try:
            fd = os.open(at, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), 0o644)
        except OSError as exc:
            raise NotFoundError(f'Cannot write "{path}": {exc}') from exc
        return WritableFile(fd, new)

    async def make_directory(self, path: str, attributes: FileAttributes) -> None:
        try:
            self._at(path).mkdir(exist_ok=True)
        except OSError as exc:
            raise NotFoundError(f'Cannot make directory "{path}": {exc}') from exc

    async def make_symlink(self, path: str, target: str, attributes: FileAttributes) -> None:
        try:
            self._at(path).symlink_to(target)
        except FileExistsError as exc:
            raise ConflictError(f'Cannot make symbolic link "{path}": File exists') from exc
        except OSError as exc:
            raise NotFoundError(f'Cannot make symbolic link "{path}": {exc}') from exc

    async def delete(self, path: str) -> None:
        at = self._at(path)
        try:
            if at.is_dir() and not at.is_symlink():
                at.rmdir()
            else:
                at.unlink()
        except OSError as exc:
            raise NotFoundError(f'Cannot delete "{path}": {exc}') from exc

    async def close(self) -> None:
        self.closed = True
        if self.stuck:
            raise BusyError("The session is stuck")
