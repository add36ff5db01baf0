"""base.FileSession: asks a child of the lifecycle worker (workers/lifecycle/files.py)."""

import asyncio
import logging
from collections.abc import Mapping

from lxdpy.drivers.base import FileAttributes, FileStatus, FoundFile, StoppedRootfs, WritableFile
from lxdpy.drivers.zygote import Job, Message
from lxdpy.errors import BusyError, WorkerError
from lxdpy.project import plain_name

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 30.0
"""A container can keep whoever looks for a file waiting, by a file system of its own (FUSE)."""
END_TIMEOUT_S = 10.0


class LxcFiles:
    """One session; its child answers one request after the other."""

    def __init__(self, name: str, job: Job) -> None:
        self._name = name
        self._job = job
        self._lock = asyncio.Lock()
        self._closed = False
        self._broken = False
        self._gone = False

    @classmethod
    async def begin(cls, name: str, job: Job) -> "LxcFiles":
        """The session, once its child has found the root file system. Raises what that raises."""
        session = cls(name, job)
        try:
            await job.receive(ANSWER_TIMEOUT_S)
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed or self._broken

    async def status(self, path: str) -> FileStatus:
        """What is at a path."""
        message, _ = await self._ask("status", path)
        return _status(message["status"])

    async def open(self, path: str) -> FoundFile:
        """What is at a path, and what is in it."""
        message, fds = await self._ask("open", path)
        status = _status(message["status"])
        if fds:
            return FoundFile(status, fd=fds[0])
        match message:
            case {"names": list(names)}:
                return FoundFile(status, names=tuple(str(name) for name in names))
            case {"target": str(target)}:
                return FoundFile(status, target=target)
        raise WorkerError(f"The lifecycle worker answered {message!r:.200} to a look at a file")

    async def write(self, path: str, attributes: FileAttributes, *, append: bool) -> WritableFile:
        """A file open for writing."""
        message, fds = await self._ask("write", path, {**_attributes(attributes), "append": append})
        return WritableFile(fds[0], message["new"] is True)

    async def make_directory(self, path: str, attributes: FileAttributes) -> None:
        """Make a directory, if there is none."""
        await self._ask("directory", path, _attributes(attributes))

    async def make_symlink(self, path: str, target: str, attributes: FileAttributes) -> None:
        """Make a symbolic link, if the same one is not there."""
        await self._ask("symlink", path, {**_attributes(attributes), "target": target})

    async def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""
        await self._ask("delete", path)

    async def close(self) -> None:
        """End the child and wait for that: the kernel has unmounted what it had mounted by then. Raises BusyError."""
        self._closed = True
        self._job.kill()
        # Whoever waits for an answer sees the end first.
        async with self._lock:
            if self._gone:
                return
            try:
                async with asyncio.timeout(END_TIMEOUT_S):
                    await self._job.end()
            except TimeoutError as exc:
                raise BusyError(
                    f'Cannot let go of the files of instance "{plain_name(self._name)}": '
                    f"a process that looks at them did not end within {END_TIMEOUT_S:g} s"
                ) from exc
            self._gone = True
            self._job.close()

    async def _ask(
        self, verb: str, path: str, parameters: Mapping[str, object] | None = None
    ) -> tuple[Message, list[int]]:
        """The child's answer. A session whose child did not answer well is over."""
        async with self._lock:
            if self.closed:
                name = plain_name(self._name)
                raise WorkerError(f'Cannot reach the files of instance "{name}": the session has ended')
            try:
                await self._job.send({"op": verb, "path": path, **(parameters or {})})
                return await self._job.receive(ANSWER_TIMEOUT_S)
            except (WorkerError, asyncio.CancelledError):
                # Its next answer might be the one that nobody waits for any more.
                self._broken = True
                self._job.kill()
                raise


def files_request(rootfs: StoppedRootfs) -> dict[str, object]:
    """The files job for a container that does not run."""
    return {
        "job": "files",
        "lowers": [(lower.kind, lower.path) for lower in rootfs.lowers],
        "rw": rootfs.rw,
        "scratch": rootfs.scratch,
    }


def _attributes(attributes: FileAttributes) -> dict[str, object]:
    return {
        "uid": attributes.uid,
        "gid": attributes.gid,
        "mode": attributes.mode,
        "modify": sorted(attributes.modify),
        "modified": attributes.modified_ns,
    }


def _status(value: object) -> FileStatus:
    match value:
        case {
            "kind": str(kind),
            "uid": int(uid),
            "gid": int(gid),
            "mode": int(mode),
            "size": int(size),
            "modified": int(modified),
        }:
            return FileStatus(kind, uid, gid, mode, size, modified)
    raise WorkerError(f"The lifecycle worker described a file as {value!r:.200}")
