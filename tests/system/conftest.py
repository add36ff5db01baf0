"""What system tests stand on: a place on disk, a busybox layer, a driver in an event loop, and the check that no
process, cgroup, mount, network interface or descriptor of a test outlives it.

Everything that a test makes bears its prefix (`prefix`): cgroups lie below /sys/fs/cgroup/*/PREFIX, interfaces begin
with PREFIX, files lie in `place`. Other users of the machine come and go meanwhile and are of no interest.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdpy.config import Config
from lxdpy.drivers.base import IdMap, LowerMount, StartSpec
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.drivers.liblxc.cgroups import remove
from lxdpy.linux.cgroup import cgroup_mounts

APPLETS = "sh true false sleep id cat tty env ls pwd echo kill stat test seq readlink grep head mkdir touch rm".split()
IDMAP = IdMap(1_000_000, 65_536)
SETTLE_S = 5.0
_numbers = itertools.count()


@pytest.fixture
def prefix() -> str:
    """Names this test's cgroups and interfaces; at most 10 characters."""
    return f"lx{os.getpid() % 100_000}t{next(_numbers) % 100}"


@pytest.fixture
def place(prefix: str) -> Iterator[Path]:
    """A directory that container roots may pass through, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"{prefix}-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(autouse=True)
def nothing_left(prefix: str, place: Path) -> Iterator[None]:
    """Fail when something of the test outlives it; what can be removed is."""
    descriptors = _descriptors()
    children = _children()
    yield
    deadline = time.monotonic() + SETTLE_S
    while (left := _left(prefix, place, descriptors, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        _sweep(prefix)
        pytest.fail("left behind: " + ", ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def busybox_layer() -> Iterator[Path]:
    """A directory with busybox, users and groups: usable as a layer."""
    with tempfile.TemporaryDirectory(prefix="lxdpy-busybox-", dir="/var/tmp") as name:
        layer = Path(name) / "fs"
        for directory in ("bin", "dev", "etc", "home/app", "proc", "root", "sys", "tmp", "run"):
            (layer / directory).mkdir(parents=True)
        os.chmod(layer / "tmp", 0o1777)
        os.chown(layer / "home/app", 100, 101)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, layer / "bin/busybox")
        for applet in APPLETS:
            (layer / "bin" / applet).symlink_to("busybox")
        (layer / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\napp:x:100:101:an app:/home/app:/bin/sh\nlost:x:70000:0::/:/bin/sh\n"
        )
        (layer / "etc/group").write_text("root:x:0:\napp:x:101:\naudio:x:29:app,root\nwheel:x:10:root\n")
        Path(name).chmod(0o711)
        yield layer


@pytest.fixture
def spec(place: Path, prefix: str, busybox_layer: Path) -> Callable[..., StartSpec]:
    """Makes StartSpecs: `spec("sh", "-c", "...", name="web", user="app")`; unprivileged unless idmap=None."""

    def make(*argv: str, name: str = "web", **changes: Any) -> StartSpec:
        directory = place / "instances" / name
        for part in ("upper", "work"):
            (directory / "rw" / part).mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {
            "lowers": (LowerMount("dir", str(busybox_layer)),),
            "idmap": IDMAP,
            "items": (),
            "rw": "rw",
            "environment": (),
            "user": "",
            "cwd": "/",
            "init": False,
            **changes,
        }
        values["items"] = (("lxc.uts.name", name), *values["items"])
        return StartSpec(
            name=name,
            lxc_path=str(place / "instances"),
            directory=str(directory),
            cgroup=f"{prefix}/{name}",
            argv=argv,
            **values,
        )

    return make


@pytest.fixture
def with_containers() -> Callable[[Callable[[LxcContainers], Awaitable[None]]], None]:
    """Runs a coroutine function with a driver in an event loop; what still runs afterwards is killed."""

    def run(body: Callable[[LxcContainers], Awaitable[None]]) -> None:
        async def main() -> None:
            containers = LxcContainers(Config())
            try:
                async with asyncio.timeout(100):
                    await body(containers)
            finally:
                for container in list(containers.running):
                    container.signal(9)
                    await container.released()
                await containers.close()

        asyncio.run(main())

    return run


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> set[str]:
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(Path(f"/proc/self/task/{task}/children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def _left(prefix: str, place: Path, descriptors: int, children: set[str]) -> list[str]:
    left = [f"process {pid}" for pid in sorted(_children() - children)]
    for root in cgroup_mounts().roots:
        for cgroup in (Path(root) / prefix).glob("**/"):
            # The parent itself is the daemon's to keep.
            processes = (cgroup / "cgroup.procs").read_text().split() if cgroup.is_dir() else []
            if cgroup != Path(root) / prefix or processes:
                left.append(f"cgroup {cgroup} {processes}")
        if not any((Path(root) / prefix).glob("*/")) and (Path(root) / prefix).is_dir():
            (Path(root) / prefix).rmdir()
    left += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]
    left += [f"interface {name}" for name in os.listdir("/sys/class/net") if name.startswith(prefix)]
    if (now := _descriptors()) > descriptors:
        left.append(f"{now - descriptors} descriptors")
    return left


def _sweep(prefix: str) -> None:
    mounts = cgroup_mounts()
    for root in mounts.roots:
        for cgroup in sorted((Path(root) / prefix).glob("*/")):
            remove(mounts, f"{prefix}/{cgroup.name.removesuffix('.monitor')}", pivot=True)
