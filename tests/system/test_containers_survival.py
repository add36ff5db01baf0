"""Containers outlive the daemon; nothing outlives a container, however its monitor ended."""

# ruff: noqa: ASYNC240 - each test has an event loop to itself, and may block it

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxdpy.config import Config
from lxdpy.drivers.base import ExitStatus, StartSpec
from lxdpy.drivers.liblxc import LxcContainers, cgroups
from lxdpy.linux.cgroup import cgroup_mounts

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]

Spec = Callable[..., StartSpec]
With = Callable[[Callable[[LxcContainers], Any]], None]


def start_and_die(spec: StartSpec, after_s: float | None = None) -> None:
    """Start a container in a daemon that is killed once it runs, or `after_s` seconds after it began."""
    pid = os.fork()
    if pid == 0:
        try:

            async def main() -> None:
                containers = LxcContainers(Config())
                await containers.version()
                starting = asyncio.create_task(containers.start(spec))
                await asyncio.wait([starting], timeout=after_s)
                os.kill(os.getpid(), signal.SIGKILL)

            asyncio.run(main())
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


async def adopt(containers: LxcContainers, spec: StartSpec) -> Any:
    return await containers.adopt(spec.name, spec.lxc_path, spec.directory, spec.cgroup)


@pytest.mark.parametrize("recorded", [True, False])
def test_container_survives_the_daemon(with_containers: With, spec: Spec, recorded: bool) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")
        start_and_die(made)
        if not recorded:
            Path(made.directory, "run.json").unlink()
        before = time.time()
        container = await adopt(containers, made)
        assert container is not None
        assert before - 5 < container.started_at <= before + 1
        assert await adopt(containers, made) is container
        await container.freeze()
        await container.unfreeze()
        container.signal(signal.SIGTERM)
        assert await container.released() == ExitStatus(7, None)
        assert Path(made.directory, "console.log").read_text() == "up\n"
        assert await adopt(containers, made) is None

    with_containers(body)


def test_exit_status_of_a_container_that_ended_meanwhile(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("sh", "-c", "sleep 0.3; exit 42")
        start_and_die(made)
        while not Path(made.directory, "exit").exists():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert await adopt(containers, made) is None
        assert await containers.last_exit(made.directory) == ExitStatus(42, None)
        assert not cgroups.exists(cgroup_mounts(), made.cgroup)

    with_containers(body)


def test_killed_monitor(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        container = await containers.start(spec("sleep", "100"))
        os.kill(container.monitor_pid, signal.SIGKILL)
        await container.init_ended()
        assert await container.released() == ExitStatus(None, 9)
        assert await containers.last_exit(spec("x").directory) == ExitStatus(None, 9)
        # No name-1: the next one finds its cgroups free.
        container = await containers.start(spec("sleep", "100"))
        found = Path(f"/proc/{container.init_pid}/cgroup").read_text().splitlines()
        assert {line.rsplit(":", 1)[1] for line in found} == {f"/{spec('x').cgroup}"}
        container.signal(9)
        await container.released()

    with_containers(body)


def test_monitor_killed_while_no_daemon_ran(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("sleep", "100")
        start_and_die(made)
        record = json.loads(Path(made.directory, "run.json").read_text())
        fd = os.pidfd_open(record["monitor"])
        os.kill(record["monitor"], signal.SIGKILL)
        os.close(fd)
        while Path(f"/proc/{record['init']}").exists():
            await asyncio.sleep(0.01)
        assert cgroups.exists(cgroup_mounts(), made.cgroup)
        assert await adopt(containers, made) is None
        assert not cgroups.exists(cgroup_mounts(), made.cgroup)

    with_containers(body)


def test_recycled_pid_is_not_adopted(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("true")
        record = {"monitor": os.getpid(), "monitor_start": 1, "init": 1, "init_start": 1, "time": 0.0}
        Path(made.directory, "run.json").write_text(json.dumps(record))
        assert await adopt(containers, made) is None
        Path(made.directory, "run.json").write_text("{")
        assert await adopt(containers, made) is None

    with_containers(body)


def test_worker_that_is_killed(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        container = await containers.start(spec("sleep", "100"))
        for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            if b"lifecycle" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
        second = await containers.start(spec("sleep", "100", name="second"))
        for each in (container, second):
            assert Path(f"/proc/{each.init_pid}").exists()
            each.signal(9)
            await each.released()

    with_containers(body)


def test_cancelled_start_leaves_nothing(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        await containers.version()
        for delay in range(0, 24, 2):
            task = asyncio.create_task(containers.start(spec("sleep", "100")))
            await asyncio.sleep(delay / 1000)
            task.cancel()
            try:
                (await task).signal(9)
            except asyncio.CancelledError:
                pass
            for container in containers.running:
                await container.released()
            assert not cgroups.exists(cgroup_mounts(), spec("x").cgroup)

    with_containers(body)


def test_daemon_killed_while_it_starts_a_container(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("sleep", "100")
        for delay_ms in range(0, 40, 4):
            start_and_die(made, after_s=delay_ms / 1000)
            # Whatever was under way ends: either rolled back, or running and recorded.
            async with asyncio.timeout(10):
                while (container := await adopt(containers, made)) is None:
                    await asyncio.sleep(0.05)
                    if not cgroups.exists(cgroup_mounts(), made.cgroup):
                        break
            if container is not None:
                container.signal(9)
                await container.released()

    with_containers(body)


def test_many_runs_leak_nothing_in_the_worker(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        counts = []
        for _ in range(3):
            for _ in range(5):
                await (await containers.start(spec("true"))).released()
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            counts.append(len(os.listdir("/proc/self/fd")) + sum(len(os.listdir(f"/proc/{c}/fd")) for c in children))
        assert counts[0] == counts[2]

    with_containers(body)
