"""Files of instances: look, read, write, make and delete, whether they run or not."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lxdpy.drivers.base import FileAttributes, FileKind, FileSession, FileStatus
from lxdpy.errors import InvalidRequestError, NoSpaceError, WorkerError
from lxdpy.project import instance_url, plain_name
from lxdpy.services.events import Announce
from lxdpy.services.instances.access import FileAccess, Transfer
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime

PART = 1 << 20
MAX_TARGET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """What is at a path: a file's `data` (to be closed), a directory's `names`, or a link's `target`."""

    status: FileStatus
    data: Transfer | None
    names: tuple[str, ...] | None
    target: str | None


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is to be written at a path."""

    kind: FileKind
    attributes: FileAttributes
    append: bool = False


class InstanceFiles:
    """The files of every instance."""

    def __init__(
        self,
        roster: Roster,
        begin: Callable[[Runtime], Awaitable[FileSession]],
        ids: Callable[[Runtime], int | None],
        announce: Announce,
    ) -> None:
        """`begin` opens a session on an instance whose lock is held; `ids` says how many ids its id map has, None being
        all of them."""
        self._roster = roster
        self._begin = begin
        self._ids = ids
        self._announce = announce

    async def status(self, name: str, path: str) -> FileStatus:
        """What is at a path. Raises NotFoundError, also when there is no instance, and what FileSession says."""
        async with self._using(name) as (_, session):
            return await session.status(_checked(path))

    async def read(self, name: str, path: str) -> InstanceFile:
        """What is at a path, and what is in it. Raises as `status`."""
        async with self._using(name) as (access, session):
            found = await session.open(_checked(path))
            data = None
            if found.fd is not None:
                data = access.transfer(found.fd, f'reading "{path}" of instance "{plain_name(name)}"')
        self._tell("retrieved", name, path)
        return InstanceFile(found.status, data, found.names, found.target)

    async def write(self, name: str, path: str, new: NewFile, body: AsyncIterator[bytes]) -> None:
        """Make or change what is at a path; `body` is a file's content or a link's target. Raises as `status`."""
        match new.kind:
            case FileKind.FILE:
                await self._write_file(name, path, new, body)
            case FileKind.DIRECTORY:
                async with self._using(name, new.attributes) as (_, session):
                    await session.make_directory(_checked(path), new.attributes)
            case FileKind.SYMLINK:
                target = await _target(body)
                async with self._using(name, new.attributes) as (_, session):
                    await session.make_symlink(_checked(path), target, new.attributes)
        self._tell("pushed", name, path)

    async def delete(self, name: str, path: str) -> None:
        """Delete a file or an empty directory. Raises as `status`."""
        async with self._using(name) as (_, session):
            await session.delete(_checked(path))
        self._tell("deleted", name, path)

    async def _write_file(self, name: str, path: str, new: NewFile, body: AsyncIterator[bytes]) -> None:
        attributes = new.attributes
        async with self._using(name, attributes) as (access, session):
            written = await session.write(_checked(path), attributes, append=new.append)
            transfer = access.transfer(written.fd, f'writing "{path}" of instance "{plain_name(name)}"')
        try:
            async for part in _large(body):
                await transfer.write(part)
            special = attributes.mode is not None and attributes.mode & ~0o777
            changed = written.new or "mode" in attributes.modify
            await transfer.finish(attributes.mode if special and changed else None, attributes.modified_ns)
        except OSError as exc:
            kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else WorkerError
            raise kind(f'Cannot write "{path}" of instance "{plain_name(name)}": {exc.strerror}') from exc
        finally:
            await transfer.close()

    @asynccontextmanager
    async def _using(
        self, name: str, attributes: FileAttributes | None = None
    ) -> AsyncIterator[tuple[FileAccess, FileSession]]:
        """A session on the instance's files."""
        while True:
            runtime = self._roster.get(name)
            if attributes is not None:
                self._check_ids(runtime, attributes)
            if runtime.files.is_open:
                break
            async with self._roster.held(name) as runtime:
                if not runtime.files.is_open:
                    await runtime.cleared()
                    await runtime.files.open(
                        lambda found=runtime: self._begin(found),  # type: ignore[misc]
                        alone=runtime.container is None,
                    )
        with runtime.files.use() as session:
            yield runtime.files, session

    def _check_ids(self, runtime: Runtime, attributes: FileAttributes) -> None:
        size = self._ids(runtime)
        for number in (attributes.uid, attributes.gid):
            if size is not None and number is not None and number >= size:
                raise InvalidRequestError(
                    f'Cannot give a file of instance "{plain_name(runtime.record.name)}" to id {number}: '
                    f"its id map ends at {size - 1}"
                )

    def _tell(self, what: str, name: str, path: str) -> None:
        self._announce(f"instance-file-{what}", instance_url(name), {"path": path})


def _checked(path: str) -> str:
    if "\0" in path:
        raise InvalidRequestError("Cannot use path: it holds a NUL character")
    return path


async def _target(body: AsyncIterator[bytes]) -> str:
    """A link's target. Raises InvalidRequestError."""
    target = bytearray()
    async for chunk in body:
        target += chunk
        if len(target) > MAX_TARGET_BYTES:
            raise InvalidRequestError(f"Cannot make symbolic link: its target is longer than {MAX_TARGET_BYTES} bytes")
    if not target or 0 in target:
        raise InvalidRequestError("Cannot make symbolic link: its target is empty, or holds a NUL character")
    return target.decode("utf-8", "surrogateescape")


async def _large(body: AsyncIterator[bytes]) -> AsyncIterator[bytes | bytearray]:
    """The same bytes in parts that are worth a thread's time."""
    gathered = bytearray()
    async for chunk in body:
        gathered += chunk
        if len(gathered) >= PART:
            yield gathered
            gathered = bytearray()
    if gathered:
        yield gathered
