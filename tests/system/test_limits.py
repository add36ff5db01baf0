"""Limits of CPU, memory and processes: at the start, while it runs, after a restart of the daemon; each is exceeded."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, Failed, place

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay, pytest.mark.network, pytest.mark.registry]

EAT = "head -c 200m /dev/zero | tail -c 200m | wc -c"
"""tail keeps all of it."""
FORK = "for i in $(seq 40); do sleep 30 & done; jobs | wc -l"


CONFIG = {"limits.memory": "64MiB", "limits.memory.swap": "false", "limits.processes": "20", "limits.cpu": "1"}


@contextmanager
def started(registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{registry.host}")
        yield running


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with started(example_registry) as running:
        yield running


@pytest.fixture
def web(daemon: Daemon, example_registry: ExampleRegistry) -> Iterator[Daemon]:
    create(daemon, example_registry)
    yield daemon
    daemon.act("web", "stop", force=True)
    daemon.delete("web")


def create(daemon: Daemon, registry: ExampleRegistry) -> None:
    daemon.create("web", {"type": "image", "alias": f"{registry.host}/example:1"}, config=CONFIG)


def limit(daemon: Daemon, **config: str) -> None:
    daemon.request("PATCH", "/1.0/instances/web", {"config": {key.replace("_", "."): v for key, v in config.items()}})


def cpus(daemon: Daemon) -> str:
    return daemon.run("web", "nproc")[1].strip()


def test_exceeding_them(web: Daemon) -> None:
    assert cpus(web) == "1"
    code, output, _ = web.run("web", "sh", "-c", EAT)
    assert output.strip() != str(200 << 20), code
    code, _, complaint = web.run("web", "sh", "-c", FORK)
    assert "can't fork" in complaint, code


def test_changing_them_while_it_runs(web: Daemon) -> None:
    limit(web, limits_memory="1GiB", limits_processes="", limits_cpu="")
    assert web.run("web", "sh", "-c", EAT)[1].strip() == str(200 << 20)
    assert web.run("web", "sh", "-c", FORK)[1].strip() == "40"
    assert cpus(web) != "1"
    limit(web, limits_memory="32MiB", limits_cpu="0-0")
    assert web.run("web", "sh", "-c", EAT)[1].strip() != str(200 << 20)
    assert cpus(web) == "1"
    limit(web, limits_cpu_allowance="10ms/100ms")
    before = web.get("/1.0/instances/web/state")["cpu"]["usage"]
    assert web.run("web", "timeout", "-s", "KILL", "1", "sh", "-c", "while :; do :; done")[0] != 0
    assert web.get("/1.0/instances/web/state")["cpu"]["usage"] - before < 400_000_000


def test_a_bad_one_changes_nothing(web: Daemon) -> None:
    with pytest.raises(Failed) as failure:
        limit(web, limits_cpu="7000,7001")
    assert failure.value.status == 400
    with pytest.raises(Failed, match="at least 1048576 bytes"):
        limit(web, limits_memory="4kB")
    assert web.get("/1.0/instances/web")["config"]["limits.memory"] == "64MiB"


def test_they_hold_after_a_kill_of_the_daemon(example_registry: ExampleRegistry) -> None:
    with started(example_registry) as daemon:
        create(daemon, example_registry)
        daemon.kill()
        daemon.start()
        assert cpus(daemon) == "1"
        limit(daemon, limits_cpu="")
        assert cpus(daemon) != "1"
        daemon.act("web", "restart", force=True)
        assert daemon.run("web", "sh", "-c", EAT)[1].strip() != str(200 << 20)
