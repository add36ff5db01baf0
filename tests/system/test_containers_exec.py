"""Commands in running containers."""

# ruff: noqa: ASYNC230 - each test has an event loop to itself, and may block it

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lxdpy.drivers.base import ExecSpec, ExitStatus, IdMap, RunningContainer, StartSpec
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.errors import ConflictError, InvalidRequestError

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]

Spec = Callable[..., StartSpec]
With = Callable[[Callable[[LxcContainers], Any]], None]
EITHER = pytest.mark.parametrize("idmap", [IdMap(1_000_000, 65_536), None], ids=["unprivileged", "privileged"])


@asynccontextmanager
async def running(containers: LxcContainers, spec: StartSpec) -> AsyncIterator[RunningContainer]:
    container = await containers.start(spec)
    yield container
    container.signal(9)
    await container.released()


async def run(container: RunningContainer, *argv: str, stdin: bytes = b"", **spec: Any) -> tuple[ExitStatus, str, str]:
    """Status, stdout and stderr (each at most a pipe's worth)."""
    with ExitStack() as stack:
        ends = []
        for _ in range(3):
            read, write = os.pipe()
            ends.append((stack.enter_context(open(read, "rb")), stack.enter_context(open(write, "wb"))))
        (stdin_read, stdin_write), (out_read, out_write), (err_read, err_write) = ends
        stdin_write.write(stdin)
        stdin_write.close()
        process = await container.exec(
            ExecSpec(argv, spec.pop("environment", ()), **spec),
            stdin_read.fileno(),
            out_write.fileno(),
            err_write.fileno(),
        )
        out_write.close()
        err_write.close()
        status = await process.wait()
        return status, out_read.read().decode(), err_read.read().decode()


@EITHER
def test_streams_are_separate(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100", idmap=idmap)) as container:
            got = await run(container, "sh", "-c", "cat; echo err >&2; exit 3", stdin=b"in\n")
            assert got == (ExitStatus(3, None), "in\n", "err\n")
            script = "echo out >/dev/stdout; echo err >/dev/stderr"
            assert await run(container, "sh", "-c", script, user="app") == (ExitStatus(0, None), "out\n", "err\n")

    with_containers(body)


def test_exit_statuses(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            for code in (0, 1, 126, 127, 128, 255):
                assert (await run(container, "sh", "-c", f"exit {code}"))[0] == ExitStatus(code, None)
            assert (await run(container, "sh", "-c", "kill -TERM $$"))[0] == ExitStatus(None, 15)
            assert await run(container, "nope") == (
                ExitStatus(127, None),
                "",
                'lxdpy: cannot execute "nope": not found in $PATH\n',
            )
            assert (await run(container, "/no/such"))[::2] == (
                ExitStatus(127, None),
                'lxdpy: cannot execute "/no/such": no such file\n',
            )
            assert (await run(container, "/etc/passwd"))[::2] == (
                ExitStatus(126, None),
                'lxdpy: cannot execute "/etc/passwd": Permission denied\n',
            )

    with_containers(body)


@EITHER
def test_user_environment_and_directory(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100", idmap=idmap)) as container:
            script = "echo $(id -u) $(id -g) $(grep Groups /proc/self/status | cat) $HOME $PWD"
            for asked, got in (
                ({}, "0 0 Groups: 10 29 /root /root"),
                ({"user": "app"}, "100 101 Groups: 29 /home/app /home/app"),
                ({"user": "app:wheel", "cwd": "/tmp"}, "100 10 Groups: /home/app /tmp"),
                ({"uid": 100}, "100 101 Groups: 29 /home/app /home/app"),
                ({"uid": 7, "gid": 8}, "7 8 Groups: / /"),
            ):
                status, out, err = await run(container, "sh", "-c", script, **asked)  # type: ignore[arg-type]
                assert (status.code, sorted(out.split()), err) == (0, sorted(got.split()), "")
            environment = (("A", "x\ny"), ("PATH", "/bin:/else"))
            _, out, _ = await run(container, "env", environment=environment)
            assert sorted(out.splitlines()) == ["A=x", "HOME=/root", "PATH=/bin:/else", "y"]
            with pytest.raises(InvalidRequestError, match='User "zz" is not in /etc/passwd'):
                await run(container, "true", user="zz")
            status, _, err = await run(container, "true", cwd="/nowhere")
            assert (status.code, err) == (
                126,
                "lxdpy: cannot change to directory /nowhere: No such file or directory\n",
            )

    with_containers(body)


def test_user_beyond_the_id_map(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            with pytest.raises(InvalidRequestError, match="not mapped"):
                await container.exec(ExecSpec(("true",), (), uid=70_000, gid=0), 0, 1, 2)

    with_containers(body)


def test_nothing_is_inherited(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            _, out, _ = await run(container, "sh", "-c", "exec ls /proc/self/fd")
            # stdio, and the directory being listed.
            assert out.split() == ["0", "1", "2", "3"]
            _, out, _ = await run(container, "grep", "-E", "SigIgn|SigBlk", "/proc/self/status")
            # posix_spawn() ignores 32 and 33, which the C library keeps to itself.
            assert out.split() in (
                ["SigBlk:", "0" * 16, "SigIgn:", ignored] for ignored in ("0" * 16, "0000000180000000")
            )
            _, out, _ = await run(container, "cat", "/proc/self/cgroup")
            assert {line.rsplit(":", 1)[1] for line in out.splitlines()} <= {"/", "/.lxc"}

    with_containers(body)


@EITHER
def test_terminal(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100", idmap=idmap)) as container:
            master, slave = await container.open_terminal()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
            script = "test -t 0 && echo terminal $(tty) >/dev/tty; echo again >/dev/stdout; read line; echo got $line"
            process = await container.exec(
                ExecSpec(("sh", "-c", f"{script}; exit 5"), (), user="app", terminal=True), slave, slave, slave
            )
            os.close(slave)
            os.write(master, b"hello\n")
            assert await process.wait() == ExitStatus(5, None)
            text = os.read(master, 4096).decode()
            assert [word in text for word in ("terminal /dev/pts/", "again", "got hello")] == [True] * 3
            # The terminal's line discipline reaches the command.
            process = await _cat_on_terminal(container)
            assert await process.wait() == ExitStatus(None, signal.SIGINT)
            os.close(master)

    with_containers(body)


async def _cat_on_terminal(container: RunningContainer) -> Any:
    master, slave = await container.open_terminal()
    process = await container.exec(
        ExecSpec(("sh", "-c", "echo ready; exec cat"), (), terminal=True), slave, slave, slave
    )
    os.close(slave)
    assert b"ready" in await asyncio.to_thread(os.read, master, 100)
    os.write(master, b"\x03")
    await process.wait()
    os.close(master)
    return process


def test_signal(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            null = os.open("/dev/null", os.O_RDWR)
            process = await container.exec(ExecSpec(("sleep", "100"), ()), null, null, null)
            os.close(null)
            # The pid is known before the process is who it is to be.
            async with asyncio.timeout(5):
                while os.stat(f"/proc/{process.pid}").st_uid != 1_000_000:
                    await asyncio.sleep(0.01)
            process.signal(signal.SIGKILL)
            assert await process.wait() == ExitStatus(None, signal.SIGKILL)
            process.signal(signal.SIGKILL)

    with_containers(body)


def test_fifty_at_once(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            results = await asyncio.gather(*(run(container, "echo", str(number)) for number in range(50)))
            assert results == [(ExitStatus(0, None), f"{number}\n", "") for number in range(50)]

    with_containers(body)


def test_refused_when_frozen_or_stopped(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            await container.freeze()
            with pytest.raises(ConflictError, match="it is frozen"):
                await run(container, "true")
            await container.unfreeze()
        with pytest.raises(ConflictError, match="is not running"):
            await container.exec(ExecSpec(("true",), ()), 0, 1, 2)

    with_containers(body)


def test_commands_end_with_their_container(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        container = await containers.start(spec("sleep", "100"))
        null = os.open("/dev/null", os.O_RDWR)
        process = await container.exec(ExecSpec(("sleep", "100"), ()), null, null, null)
        os.close(null)
        container.signal(9)
        assert await process.wait() == ExitStatus(None, 9)
        await container.released()

    with_containers(body)


def test_root_of_a_container_cannot_trace_what_enters_it(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with running(containers, spec("sleep", "100")) as container:
            tracer = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(Path(__file__).with_name("tracer.py")),
                str(container.init_pid),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert tracer.stdout is not None
            assert await tracer.stdout.readline() == b"ready\n"
            for _ in range(30):
                assert (await run(container, "sleep", "0.01"))[0] == ExitStatus(0, None)
            output, _ = await tracer.communicate(b"")
            assert tracer.returncode == 0
            traced = {tuple(line.split()) for line in output.decode().splitlines()}
            # Once it has become the command it is the container's own.
            assert traced <= {("/bin/busybox", "0")}

    with_containers(body)
