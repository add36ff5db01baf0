"""Jobs of a real fork server: messages, descriptors, errors, deaths."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lxdpy.drivers.zygote import Zygote
from lxdpy.errors import ConflictError, WorkerError

SERVER = str(Path(__file__).with_name("zygote_server.py"))


def with_zygote(body: Callable[[Zygote], Awaitable[None]], *arguments: str) -> None:
    """Run `body` with a fork server, and see that it ends and leaves no descriptor."""

    async def main() -> None:
        zygote = Zygote("test", (sys.executable, SERVER, *arguments))
        try:
            await body(zygote)
        finally:
            await zygote.close()

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before


def test_request_and_answer_with_descriptors() -> None:
    async def body(zygote: Zygote) -> None:
        read, write = os.pipe()
        with await zygote.job({"do": "echo", "value": [1, "ä"]}, (write,)) as job:
            message, fds = await job.receive(10)
        assert message["echo"] == [1, "ä"]
        assert message["fds"] == 1
        # stdio, the channel, the pipe, and the directory being listed; devnull as stderr: nothing of the fork server.
        assert isinstance(message["open"], list)
        assert len(message["open"]) == 7
        os.write(fds[0], b"x")
        assert os.read(read, 2) == b"x"
        for fd in (read, write, *fds):
            os.close(fd)

    with_zygote(body)


def test_large_request() -> None:
    async def body(zygote: Zygote) -> None:
        value = ["/var/lib/lxdpy/layers/" + "f" * 64] * 20_000
        with await zygote.job({"do": "echo", "value": value}) as job:
            message, _ = await job.receive(10)
        assert message["echo"] == value

    with_zygote(body)


def test_conversation() -> None:
    async def body(zygote: Zygote) -> None:
        with await zygote.job({"do": "talk"}) as job:

            async def ask() -> None:
                for number in range(200):
                    await job.send({"number": number, "bulk": "x" * 3000})

            asking = asyncio.create_task(ask())
            for number in range(200):
                message, _ = await job.receive(10)
                assert message["number"] == number
            await asking

    with_zygote(body)


def test_jobs_run_at_the_same_time_in_processes_of_their_own() -> None:
    async def body(zygote: Zygote) -> None:
        jobs = [await zygote.job({"do": "talk"}) for _ in range(20)]
        assert len({job.pid for job in jobs} | {zygote.pid}) == 21
        for job in jobs:
            await job.send({})
            await job.receive(10)
            job.close()

    with_zygote(body)


def test_children_of_a_job_are_its_own_to_wait_for() -> None:
    async def body(zygote: Zygote) -> None:
        with await zygote.job({"do": "children"}) as job:
            assert (await job.receive(10))[0] == {"status": 7}

    with_zygote(body)


def test_what_a_child_raises_is_raised_here() -> None:
    async def body(zygote: Zygote) -> None:
        with pytest.raises(ConflictError, match="Cannot do it: it is done"), await zygote.job({"do": "refuse"}) as job:
            await job.receive(10)
        with pytest.raises(WorkerError, match=r"FileNotFoundError.*/nowhere"), await zygote.job({"do": "fail"}) as job:
            await job.receive(10)

    with_zygote(body)


def test_dead_child_is_a_worker_error_and_the_fork_server_goes_on() -> None:
    async def body(zygote: Zygote) -> None:
        with pytest.raises(WorkerError, match="died"), await zygote.job({"do": "die"}) as job:
            await job.receive(10)
        pid = zygote.pid
        with await zygote.job({"do": "echo", "value": 1}) as job:
            await job.receive(10)
        assert zygote.pid == pid

    with_zygote(body)


def test_hanging_child_is_killed_after_the_timeout() -> None:
    async def body(zygote: Zygote) -> None:
        job = await zygote.job({"do": "hang"})
        pidfd = os.pidfd_open(job.pid)
        with job, pytest.raises(WorkerError, match=r"did not answer within 0\.05 s"):
            await job.receive(0.05)
        await ended(pidfd)

    with_zygote(body)


def test_cancelled_job_is_killed() -> None:
    async def body(zygote: Zygote) -> None:
        started: asyncio.Queue[int] = asyncio.Queue()

        async def work() -> None:
            with await zygote.job({"do": "hang"}) as job:
                started.put_nowait(os.pidfd_open(job.pid))
                await job.receive()

        task = asyncio.create_task(work())
        pidfd = await started.get()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended(pidfd)

    with_zygote(body)


def test_killed_fork_server_is_spawned_again() -> None:
    async def body(zygote: Zygote) -> None:
        for _ in range(3):
            with await zygote.job({"do": "echo", "value": 1}) as job:
                await job.receive(10)
            assert zygote.pid is not None
            os.kill(zygote.pid, signal.SIGKILL)

    with_zygote(body)


def test_idle_fork_server_ends_and_comes_back() -> None:
    async def body(zygote: Zygote) -> None:
        first = await zygote.job({"do": "echo", "value": 1})
        first.close()
        assert zygote.pid is not None
        await ended(os.pidfd_open(zygote.pid))
        with await zygote.job({"do": "echo", "value": 2}) as job:
            assert (await job.receive(10))[0]["echo"] == 2

    with_zygote(body, "0.05")


def test_program_that_is_missing_or_ends_at_once_is_a_worker_error() -> None:
    async def main() -> None:
        with pytest.raises(WorkerError, match="Cannot start the absent fork server /nowhere"):
            await Zygote("absent", ("/nowhere",)).job({})
        hasty = Zygote("hasty", ("/bin/true",))
        with pytest.raises(WorkerError, match="ends as soon as it is started"):
            await hasty.job({})
        await hasty.close()
        with pytest.raises(WorkerError, match="is closed"):
            await hasty.job({})

    asyncio.run(main())


async def ended(pidfd: int) -> None:
    """Wait until the process has ended; closes `pidfd`."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(pidfd, event.set)
    async with asyncio.timeout(10):
        await event.wait()
    loop.remove_reader(pidfd)
    os.close(pidfd)
