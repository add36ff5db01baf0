import asyncio
import random
from pathlib import Path

import pytest

from lxdpy.services.instances.console import ConsoleLog


async def whole(log: ConsoleLog, tail: int | None = None) -> bytes:
    return b"".join([part async for part in log.read(tail)])


@pytest.mark.parametrize(
    ("tail", "expected"),
    [(None, b"a\nb\r\nc\n"), (1, b"c\n"), (2, b"b\r\nc\n"), (3, b"a\nb\r\nc\n"), (9, b"a\nb\r\nc\n"), (0, b"")],
)
def test_read_undoes_the_terminal(tmp_path: Path, tail: int | None, expected: bytes) -> None:
    path = tmp_path / "console.log"
    # "b\r\n" as the process wrote it is "b\r\r\n" behind a pty.
    path.write_bytes(b"a\r\nb\r\r\nc\r\n")
    assert asyncio.run(whole(ConsoleLog(path, lambda: True), tail)) == expected


def test_missing_log_is_empty(tmp_path: Path) -> None:
    assert asyncio.run(whole(ConsoleLog(tmp_path / "none", lambda: True), 5)) == b""


def test_follow_gives_everything_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"one\r\ntwo\r\n")
    ended = asyncio.Event()

    async def scenario() -> list[bytes]:
        got: list[bytes] = []
        async for text in ConsoleLog(path, ended.is_set).read(tail=1, follow=True):
            got.append(text)
            if len(got) == 1:
                # A CR LF that is cut between two reads stays one line break.
                with path.open("ab") as file:
                    file.write(b"three\r")
            elif len(got) == 2:
                with path.open("ab") as file:
                    file.write(b"\nfour")
                ended.set()
        return got

    assert asyncio.run(scenario()) == [b"two\n", b"three", b"\nfour"]


def test_last_lines_of_a_large_log(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    lines = [b"x" * random.Random(number).randrange(900) + b"\n" for number in range(3000)]
    for ending in (b"", b"no end of line"):
        path.write_bytes(b"".join(lines) + ending)
        for count in (1, 2, 700, 2999, 3000, 4000):
            wanted = [*lines, ending] if ending else lines
            assert asyncio.run(whole(ConsoleLog(path, lambda: False), count)) == b"".join(wanted[-count:])


@pytest.mark.parametrize("exists", [True, False])
def test_follow_goes_on_in_a_new_file(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "console.log"
    if exists:
        path.write_bytes(b"one\r\n" * 1000)
    ended = asyncio.Event()

    async def scenario() -> bytes:
        got = b""
        async for text in ConsoleLog(path, ended.is_set).read(tail=1, follow=True):
            got += text
            if got == b"one\n":
                with path.open("ab") as file:
                    file.write(b"two\r\n")
                path.rename(tmp_path / "console.log.1")
                path.write_bytes(b"three\r\n")
            elif got.endswith(b"three\n"):
                ended.set()
        return got

    async def main() -> bytes:
        following = asyncio.create_task(scenario())
        if not exists:
            await asyncio.sleep(0.01)
            path.write_bytes(b"one\r\n")
        return await following

    assert asyncio.run(main()) == b"one\ntwo\nthree\n"


def test_follow_goes_on_when_the_log_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"one\r\n" * 1000)
    ended = asyncio.Event()

    async def scenario() -> bytes:
        got = b""
        async for text in ConsoleLog(path, ended.is_set).read(tail=1, follow=True):
            got += text
            if got == b"one\n":
                path.write_bytes(b"two\r\n")
            else:
                ended.set()
        return got

    assert asyncio.run(scenario()) == b"one\ntwo\n"
