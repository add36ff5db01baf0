"""Look into a container's root file system without leaving it: paths are resolved as if the container's / were /."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from lxdpy.drivers.overlay.stack import Owner
from lxdpy.errors import InvalidRequestError
from lxdpy.linux.idmap import file_system_ids
from lxdpy.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

MAX_TEXT_BYTES = 4 << 20
MAX_LINKS = 16


class Rootfs:
    """The tree below `root_fd`; what is made in it belongs to the container's root."""

    def __init__(self, root_fd: int, owner: Owner | None) -> None:
        self._root_fd = root_fd
        self._owner = owner

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a path beneath the root, following symlinks within it. Raises OSError."""
        return openat2(
            self._root_fd,
            path.lstrip("/") or ".",
            flags | os.O_CLOEXEC,
            mode=mode,
            resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        )

    def read_text(self, path: str) -> str:
        """A small text file; "" when it is missing or no regular file. Raises InvalidRequestError when it is huge."""
        try:
            found = self.open(path, os.O_PATH)
        except OSError:
            return ""
        try:
            # Opened only now that it is no device: some of those act at once.
            if not stat.S_ISREG(os.fstat(found).st_mode):
                return ""
            fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        finally:
            os.close(found)
        with open(fd, "rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise InvalidRequestError(f"{path} of the image is larger than {MAX_TEXT_BYTES} bytes")
        return data.decode("utf-8", "surrogateescape")

    def make_directory(self, path: str) -> int:
        """Make a directory and the missing ones above it; its descriptor. Raises InvalidRequestError."""
        try:
            return self.open(path, os.O_PATH | os.O_DIRECTORY)
        except OSError as exc:
            head, name = os.path.split(path.rstrip("/"))
            if exc.errno != errno.ENOENT or not name:
                raise InvalidRequestError(f'"{path}" is no directory in the image: {exc.strerror}') from exc
        above = self.make_directory(head)
        try:
            with self._as_root():
                os.mkdir(name, 0o755, dir_fd=above)
            return self.open(path, os.O_PATH | os.O_DIRECTORY)
        except OSError as exc:
            raise InvalidRequestError(f'Cannot make directory "{path}" in the image: {exc.strerror}') from exc
        finally:
            os.close(above)

    def make_file(self, path: str) -> int:
        """Open a file to mount over, made if missing, also behind a dangling link. Raises InvalidRequestError."""
        for _ in range(MAX_LINKS):
            if (found := self._find(path)) is not None:
                return found
            try:
                with self._as_root():
                    os.close(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o644))
                return self.open(path, os.O_PATH)
            except OSError as exc:
                if exc.errno != errno.ENOENT:
                    raise InvalidRequestError(f'Cannot make file "{path}" in the image: {exc.strerror}') from exc
            head, name = os.path.split(path)
            above = self.make_directory(head)
            try:
                # A link whose target's directory is missing: go on there.
                path = os.path.join(head, os.readlink(name, dir_fd=above))
            except OSError:
                pass
            finally:
                os.close(above)
        raise InvalidRequestError(f'Cannot make file "{path}" in the image: too many links')

    def write(self, path: str, data: bytes, *, create_only: bool) -> None:
        """Write a regular file, which keeps its owner and mode when it is there; `create_only` leaves it as it is then.

        Raises InvalidRequestError.
        """
        found = self._find(path)
        if found is not None and create_only:
            os.close(found)
            return
        if found is None:
            found = self.make_file(path)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise InvalidRequestError(f'Cannot write "{path}" in the image: it is no regular file')
            with self._as_root():
                fd = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "wb") as file:
                file.write(data)
        except OSError as exc:
            raise InvalidRequestError(f'Cannot write "{path}" in the image: {exc.strerror}') from exc
        finally:
            os.close(found)

    def _find(self, path: str) -> int | None:
        """What is at `path`, not opened: it may be a device that acts at once."""
        try:
            found = self.open(path, os.O_PATH)
        except OSError:
            return None
        if stat.S_ISDIR(os.fstat(found).st_mode):
            os.close(found)
            raise InvalidRequestError(f'Cannot make file "{path}" in the image: {os.strerror(errno.EISDIR)}')
        return found

    def check_executable(self, program: str, search_path: str, cwd: str) -> None:
        """See that `program` can be executed, looked up as execvp(3) does.

        Raises InvalidRequestError, whose text names the program and what is wrong.
        """
        if "/" in program:
            reason = self._why_not_executable(os.path.join(cwd, program))
            if reason is not None:
                raise InvalidRequestError(f'"{program}" {reason} in the image')
            return
        worst = "not found in $PATH of the image"
        for directory in search_path.split(":"):
            reason = self._why_not_executable(os.path.join(cwd, directory, program))
            if reason is None:
                return
            if reason != "not found":
                worst = f"{reason} in {directory} of the image"
        raise InvalidRequestError(f'"{program}" {worst}')

    def _why_not_executable(self, path: str) -> str | None:
        try:
            fd = self.open(path, os.O_PATH)
        except OSError as exc:
            return "not found" if exc.errno in (errno.ENOENT, errno.ENOTDIR) else f"can't be opened ({exc.strerror})"
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if stat.S_ISDIR(mode):
            return "is a directory"
        if not stat.S_ISREG(mode) or not mode & 0o111:
            return "is not executable"
        return None

    @contextmanager
    def _as_root(self) -> Iterator[None]:
        if self._owner is None:
            yield
        else:
            with file_system_ids(self._owner.base, self._owner.base):
                yield
