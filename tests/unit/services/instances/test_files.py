"""File sessions: opened once, ended when somebody needs the instance, or when idle."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest

from lxdpy.drivers.base import FileAttributes, FileKind
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, NotFoundError
from lxdpy.services.instances import Action, NewFile, Stop, access
from lxdpy.services.instances.files import PART
from tests.unit.services.conftest import Host
from tests.unit.services.instances.test_service import create

Play = Callable[..., None]
FILE = NewFile(FileKind.FILE, FileAttributes())


async def content(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(host: Host, name: str, path: str) -> bytes:
    found = await host.instances.files.read(name, path)
    assert found.data is not None
    data = b""
    while part := await found.data.read(1000):
        data += part
    await found.data.close()
    return data


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_written_and_read(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "web", start=False)
        files = host.instances.files
        before = descriptors()
        await files.write("web", "/one", FILE, content(b"a" * PART, b"b", b"c" * 10))
        assert await read(host, "web", "/one") == b"a" * PART + b"b" + b"c" * 10
        await files.write("web", "/link", NewFile(FileKind.SYMLINK, FileAttributes()), content(b"o", b"ne"))
        assert (await files.read("web", "/link")).target == "one"
        await files.write("web", "/sub", NewFile(FileKind.DIRECTORY, FileAttributes()), content())
        assert (await files.read("web", "/")).names == ("link", "one", "sub")
        await files.delete("web", "/one")
        with pytest.raises(NotFoundError):
            await files.status("web", "/one")
        # One session for all of it, and nothing open afterwards.
        assert len(host.containers.sessions) == 1
        assert descriptors() == before
        assert [event for event in host.events if "file" in event[0]] == [
            ("instance-file-pushed", "/1.0/instances/web"),
            ("instance-file-retrieved", "/1.0/instances/web"),
            ("instance-file-pushed", "/1.0/instances/web"),
            ("instance-file-retrieved", "/1.0/instances/web"),
            ("instance-file-pushed", "/1.0/instances/web"),
            ("instance-file-retrieved", "/1.0/instances/web"),
            ("instance-file-deleted", "/1.0/instances/web"),
        ]

    play(scenario)


def test_refused(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "web", start=False)
        files = host.instances.files
        with pytest.raises(NotFoundError):
            await files.status("none", "/")
        with pytest.raises(InvalidRequestError, match="NUL"):
            await files.status("web", "/a\0b")
        for target in (b"", b"a\0b", b"x" * 5000):
            with pytest.raises(InvalidRequestError, match="Cannot make symbolic link"):
                await files.write("web", "/l", NewFile(FileKind.SYMLINK, FileAttributes()), content(target))
        with pytest.raises(InvalidRequestError, match="id 65536: its id map ends at 65535"):
            await files.write("web", "/f", NewFile(FileKind.FILE, FileAttributes(uid=65536)), content())
        assert (await files.read("web", "/")).names == ()

    play(scenario)


def test_a_start_waits_for_the_session_and_breaks_off_transfers(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "web", start=False)
        files = host.instances.files
        await files.write("web", "/one", FILE, content(b"x" * 100))
        found = await files.read("web", "/one")
        assert found.data is not None
        (session,) = host.containers.sessions
        await host.instances.act("web", Action.START, Stop())
        assert session.closed
        with pytest.raises(ConflictError, match='Cannot go on with reading "/one" of instance "web"'):
            await found.data.read(10)
        # Now it is asked of the container.
        await files.status("web", "/")
        (container,) = host.containers.started
        assert [entry.closed for entry in container.sessions] == [False]
        await host.instances.act("web", Action.STOP, Stop(force=True))
        await host.instances.wait("web", None)
        assert container.sessions[0].closed
        await files.status("web", "/")
        await host.instances.delete("web")
        assert all(entry.closed for entry in host.containers.sessions)

    play(scenario)


def test_a_session_that_broke_is_opened_again(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "web", start=False)
        await host.instances.files.status("web", "/")
        host.containers.sessions[0].closed = True
        await host.instances.files.status("web", "/")
        assert len(host.containers.sessions) == 2

    play(scenario)


def test_a_session_that_does_not_end(play: Play) -> None:
    async def scenario(host: Host) -> None:
        container = await create(host, "web")
        assert container is not None
        files = host.instances.files
        await files.status("web", "/")
        container.sessions[0].stuck = True
        container.sessions[0].closed = True
        # Beside it the others work.
        await files.status("web", "/")
        assert len(container.sessions) == 2
        await host.instances.act("web", Action.STOP, Stop(force=True))
        await host.instances.wait("web", None)
        assert container.sessions[1].closed
        # No second mount of its layers, though.
        with pytest.raises(BusyError, match="stuck"):
            await files.status("web", "/")
        with pytest.raises(BusyError, match="stuck"):
            await host.instances.act("web", Action.START, Stop())
        container.sessions[0].stuck = False
        await files.status("web", "/")
        await host.instances.act("web", Action.START, Stop())

    play(scenario)


def test_one_session_for_many_at_once(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await create(host, "web", start=False)
        await asyncio.gather(
            *(host.instances.files.write("web", f"/{number}", FILE, content(b"x")) for number in range(20))
        )
        assert len(host.containers.sessions) == 1

    play(scenario)


def test_an_idle_session_ends(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "IDLE_S", 0.01)

    async def scenario(host: Host) -> None:
        await create(host, "web", start=False)
        await host.instances.files.write("web", "/one", FILE, content(b"x"))
        found = await host.instances.files.read("web", "/one")
        assert found.data is not None
        (session,) = host.containers.sessions
        await asyncio.sleep(0.1)
        # Not while something is under way.
        assert not session.closed
        assert await found.data.read(10) == b"x"
        await found.data.close()
        async with asyncio.timeout(5):
            while not session.closed:
                await asyncio.sleep(0.01)

    play(scenario)


def test_a_descriptor_stays_open_while_a_thread_uses_it() -> None:
    async def scenario() -> None:
        reader, writer = os.pipe()
        closed: list[access.Transfer] = []
        transfer = access.Transfer(reader, "reading", closed.append)
        reading = asyncio.create_task(transfer.read(10))
        await asyncio.sleep(0.05)
        # As often as a cancel scope of anyio does it.
        for _ in range(3):
            reading.cancel()
            await asyncio.sleep(0)
        closing = asyncio.create_task(transfer.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait([reading, closing])
        assert closed == []
        os.fstat(reader)
        os.write(writer, b"x")
        async with asyncio.timeout(5):
            await transfer.close()
        assert closed == [transfer]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reader)
        os.close(writer)

    asyncio.run(scenario())
