"""Files of instances, running or not."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lxdpy.drivers.base.layers import LowerMount


class FileKind(StrEnum):
    """What can be had of an instance's files, in LXD's words."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is at a path; ids are the container's."""

    kind: str
    """A FileKind, or a word for something that can't be read: `device`, `socket`, `named pipe`."""
    uid: int
    gid: int
    mode: int
    """Permissions, setuid and the like; without the kind."""
    size_bytes: int
    modified_ns: int
    """Since the epoch."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What is at a path, and what is in it: exactly one of the three is set."""

    status: FileStatus
    fd: int | None = None
    """A file, open for reading; the caller closes it."""
    names: tuple[str, ...] | None = None
    """A directory's entries, sorted; bytes that are no UTF-8 are surrogates."""
    target: str | None = None
    """Where a link leads, as it is written in the link."""


@dataclass(frozen=True, slots=True)
class WritableFile:
    """A file open for writing, and whether it was made just now; the caller closes it."""

    fd: int
    new: bool


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """What a new file gets; None: container root's, and the usual mode. One that is there keeps what it has, except for
    what `modify` lists."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    modify: frozenset[str] = frozenset()
    """Of `uid`, `gid` and `mode`."""
    modified_ns: int | None = None
    """For directories and links, also for those that are there."""


class FileSession(Protocol):
    """The files of one instance, while it lasts. Paths begin at the container's root and never lead out of it.

    Every method raises NotFoundError, ConflictError (exists), InvalidRequestError (is a directory, is not empty),
    UnsupportedError, AccessDeniedError, NoSpaceError, and WorkerError, also when the session was closed meanwhile.
    """

    @property
    def closed(self) -> bool:
        """Whether it has ended, by `close` or because its process did."""

    async def status(self, path: str) -> FileStatus:
        """What is at a path; links are not followed at its end."""

    async def open(self, path: str) -> FoundFile:
        """What is at a path, and what is in it; links are not followed at its end."""

    async def write(self, path: str, attributes: FileAttributes, *, append: bool) -> WritableFile:
        """A new or emptied file, or to `append`, one that is there."""

    async def make_directory(self, path: str, attributes: FileAttributes) -> None:
        """Make a directory, if there is none."""

    async def make_symlink(self, path: str, target: str, attributes: FileAttributes) -> None:
        """Make a symbolic link, if the same one is not there."""

    async def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""

    async def close(self) -> None:
        """End it; when this returns, nothing of the instance's root file system is held or mounted for it."""


@dataclass(frozen=True, slots=True)
class StoppedRootfs:
    """Where the root file system of an instance is that does not run."""

    name: str
    lowers: tuple[LowerMount, ...]
    """Topmost first."""
    rw: str
    """The directory that has `upper` and `work`."""
    scratch: str
    """An empty directory."""
