"""System containers with the real liblxc: what init sees, how it is asked to halt, and that a reboot ends it."""

# ruff: noqa: ASYNC240 - each test has an event loop to itself, and may block it

import asyncio
import dataclasses
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdpy.drivers.base import ExecSpec, ExitStatus, IdMap, LowerMount, RunningContainer, StartSpec, TemplateFile
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.errors import InvalidRequestError
from tests.system import system_images

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]

Spec = Callable[..., StartSpec]
With = Callable[[Callable[[LxcContainers], Any]], None]
EITHER = pytest.mark.parametrize("idmap", [IdMap(1_000_000, 65_536), None], ids=["unprivileged", "privileged"])


@pytest.fixture(scope="module")
def layer() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lxdpy-system-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield system_images.busybox(Path(name) / "fs")


@pytest.fixture
def system(spec: Spec, layer: Path) -> Spec:
    """StartSpecs of the system in `layer`."""

    def make(**changes: Any) -> StartSpec:
        made = spec("/sbin/init", **changes)
        return dataclasses.replace(made, lowers=(LowerMount("dir", str(layer)),), system=True, environment=())

    return make


def upper(spec: StartSpec, path: str) -> str:
    return Path(spec.directory, "rw/upper", path).read_text()


async def boot(containers: LxcContainers, spec: StartSpec) -> RunningContainer:
    """Start it and wait until its init has set itself up."""
    boots = Path(spec.directory, "rw/upper/var/boots")
    before = boots.read_text() if boots.exists() else ""
    container = await containers.start(spec)
    while not boots.exists() or boots.read_text() == before:
        await asyncio.sleep(0.01)
    return container


@EITHER
def test_halts_cleanly_and_starts_again(with_containers: With, system: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        made = system(idmap=idmap)
        for times in (1, 2):
            container = await boot(containers, made)
            container.signal(container.halt_signal())
            assert await container.released() == ExitStatus(None, signal.SIGINT)
            assert upper(made, "var/boots") == "start\nstop\n" * times

    with_containers(body)


def test_poweroff_and_reboot_from_inside_end_it(with_containers: With, system: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = system()
        for command, signo in (("poweroff", signal.SIGINT), ("reboot", signal.SIGHUP)):
            container = await boot(containers, made)
            await command_in(container, f"/sbin/{command}")
            assert await container.released() == ExitStatus(None, signo)
        # liblxc has not begun anew by itself, and a start is an ordinary one.
        assert upper(made, "var/boots") == "start\nstop\n" * 2
        await boot(containers, made)

    with_containers(body)


def test_init_has_the_environment_that_was_asked_for(with_containers: With, system: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = dataclasses.replace(system(), environment=(("A", "1 2"),))
        container = await boot(containers, made)
        environment = Path(f"/proc/{container.init_pid}/environ").read_bytes().split(b"\0")
        assert {b"A=1 2", b"container=lxc"} <= set(environment)
        assert not any(entry.startswith((b"PATH=", b"HOME=")) for entry in environment)

    with_containers(body)


@EITHER
def test_templates_are_written_before_init_runs(with_containers: With, system: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        made = dataclasses.replace(
            system(idmap=idmap),
            templates=(
                TemplateFile("/etc/hostname", "by-template\n", create_only=False),
                TemplateFile("/etc/inittab", "nothing", create_only=True),
                TemplateFile("/srv/deep/made", "é\n", create_only=True),
            ),
        )
        container = await boot(containers, made)
        assert upper(made, "etc/hostname") == "by-template\n"
        assert not Path(made.directory, "rw/upper/etc/inittab").exists()
        assert upper(made, "srv/deep/made") == "é\n"
        found = Path(made.directory, "rw/upper/srv/deep/made").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 0, 0o644)
        assert Path(f"/proc/{container.init_pid}/root/etc/hostname").read_text() == "by-template\n"

    with_containers(body)


def test_template_that_can_not_be_written(with_containers: With, system: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        made = dataclasses.replace(system(), templates=(TemplateFile("/etc", "x", create_only=False),))
        with pytest.raises(InvalidRequestError, match='Cannot start instance "web": Cannot make file "/etc"'):
            await containers.start(made)

    with_containers(body)


def test_application_can_not_reboot(with_containers: With, spec: Spec, layer: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        made = dataclasses.replace(spec("sh", "-c", "reboot -f || exit 7"), lowers=(LowerMount("dir", str(layer)),))
        assert await (await containers.start(made)).released() == ExitStatus(7, None)

    with_containers(body)


async def command_in(container: RunningContainer, *argv: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    await (await container.exec(ExecSpec(argv, ()), null, null, null)).wait()
    os.close(null)
