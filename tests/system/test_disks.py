"""Directories and files of the host in containers: at the start, and plugged into running ones."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lxdpy.drivers.base import DiskSpec, ExecSpec, ExitStatus, IdMap, RunningContainer, StartSpec
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.errors import InvalidRequestError
from tests.system.conftest import IDMAP

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]

Spec = Callable[..., StartSpec]
With = Callable[[Callable[[LxcContainers], Awaitable[None]]], None]
EITHER = pytest.mark.parametrize("idmap", [IDMAP, None], ids=["unprivileged", "privileged"])


def console(spec: StartSpec) -> str:
    return Path(spec.directory, "console.log").read_text().replace("\r\n", "\n")


async def output(containers: LxcContainers, spec: StartSpec) -> str:
    """What the container says until it ends, with success."""
    container = await containers.start(spec)
    assert await container.released() == ExitStatus(0, None), console(spec)
    return console(spec)


async def run(container: RunningContainer, script: str, place: Path) -> str:
    """What a shell in the container prints."""
    found = place / "output"
    found.touch()
    fds = [os.open(os.devnull, os.O_RDONLY), os.open(found, os.O_WRONLY | os.O_TRUNC)]
    try:
        command = ExecSpec(("sh", "-c", script), (("PATH", "/bin"),))
        process = await container.exec(command, fds[0], fds[1], 2)
        await process.wait()
    finally:
        for fd in fds:
            os.close(fd)
    return found.read_text()


@pytest.fixture
def source(place: Path) -> Path:
    """A directory with files of root and of uid 100."""
    made = place / "source"
    made.mkdir()
    (made / "file").write_text("text\n")
    (made / "theirs").write_text("")
    os.chown(made / "theirs", 100, 101)
    return made


@EITHER
def test_a_disk_is_there_at_the_start(with_containers: With, spec: Spec, source: Path, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        script = (
            "cat /some/where/file /etc/one '/with space/and\\slash/file';"
            "stat -c %u:%g /some/where/file /some/where/theirs; touch /some/where/made;"
            "touch /ro/made 2>/dev/null || echo refused; ls -1 /ro"
        )
        made = spec(
            *("sh", "-c", script),
            idmap=idmap,
            disks=(
                DiskSpec("d", str(source), "/some/where", shifted=True),
                DiskSpec("f", str(source / "file"), "/etc/one", shifted=True),
                DiskSpec("s", str(source), "/with space/and\\slash", shifted=True),
                DiskSpec("r", str(source), "ro/", readonly=True, shifted=True),
                DiskSpec("o", str(source / "none"), "/none", required=False),
            ),
        )
        assert await output(containers, made) == "text\ntext\ntext\n0:0\n100:101\nrefused\nfile\nmade\ntheirs\n"
        assert (source / "made").stat().st_uid == 0

    with_containers(body)


def test_ids_are_the_hosts_unless_they_are_shifted(with_containers: With, spec: Spec, source: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        os.chown(source / "theirs", IDMAP.base + 7, IDMAP.base + 8)
        made = spec("stat", "-c", "%u:%g", "/d/file", "/d/theirs", disks=(DiskSpec("d", str(source), "/d"),))
        assert await output(containers, made) == "65534:65534\n7:8\n"

    with_containers(body)


def test_disks_may_lie_in_each_other_and_hold_the_program(with_containers: With, spec: Spec, place: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        outer, inner = place / "outer", place / "inner"
        outer.mkdir()
        inner.mkdir()
        program = inner / "program"
        program.write_text("#!/bin/sh\npwd\n")
        program.chmod(0o755)
        made = spec(
            "/a/b/program",
            cwd="/a/work",
            # The one that holds the other comes first, whatever the order.
            disks=(
                DiskSpec("a", str(inner), "/a/b", shifted=True),
                DiskSpec("z", str(outer), "/a", shifted=True),
            ),
        )
        assert await output(containers, made) == "/a/work\n"
        assert sorted(os.listdir(outer)) == ["b", "work"]

    with_containers(body)


def test_a_start_without_its_source_fails_and_says_so(with_containers: With, spec: Spec, place: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        with pytest.raises(InvalidRequestError, match=r'Missing source path ".*none" for disk "d"'):
            await containers.start(spec("true", disks=(DiskSpec("d", str(place / "none"), "/d"),)))
        with pytest.raises(InvalidRequestError, match="is no directory"):
            await containers.start(spec("true", disks=(DiskSpec("d", str(place), "/bin/busybox"),)))

    with_containers(body)


def test_a_link_in_the_rootfs_leads_nowhere_else(with_containers: With, spec: Spec, source: Path, place: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("cat", "/target/file", disks=(DiskSpec("d", str(source), "/escape/target", shifted=True),))
        (Path(made.directory) / "rw/upper/escape").symlink_to("../../../../../../../..")
        assert await output(containers, made) == "text\n"
        assert "target" not in os.listdir("/")

    with_containers(body)


@EITHER
def test_disks_come_and_go_while_it_runs(
    with_containers: With, spec: Spec, source: Path, place: Path, idmap: IdMap | None
) -> None:
    async def body(containers: LxcContainers) -> None:
        at_start = DiskSpec("s", str(source), "/at/start", shifted=True)
        container = await containers.start(spec("sleep", "1000", idmap=idmap, disks=(at_start,)))
        disk = DiskSpec("d", str(source), "/new/place", shifted=True)
        file = DiskSpec("f", str(source / "file"), "/new/file", shifted=True)
        await container.change_disks([], [disk, file])
        script = "cat /new/place/file /new/file; stat -c %u:%g /new/place/theirs; touch /new/place/made"
        assert await run(container, script, place) == "text\ntext\n100:101\n"
        assert (source / "made").stat().st_uid == 0
        await container.change_disks([disk, file, at_start], [])
        assert await run(container, "ls /new/place; cat /new/file; ls /at/start", place) == ""
        # What is not there any more can go again.
        await container.change_disks([disk, file, at_start], [])
        # Read-only instead: away with one, here is the other.
        await container.change_disks([], [disk])
        readonly = DiskSpec("d", str(source), "/new/place", readonly=True, shifted=True)
        await container.change_disks([disk], [readonly])
        assert await run(container, "touch /new/place/x 2>/dev/null || echo refused", place) == "refused\n"

    with_containers(body)


def test_read_only_stays_so_whatever_the_containers_root_does(
    with_containers: With, spec: Spec, source: Path, place: Path
) -> None:
    async def body(containers: LxcContainers) -> None:
        at_start = DiskSpec("s", str(source), "/s", readonly=True, shifted=True)
        container = await containers.start(spec("sleep", "1000", disks=(at_start,)))
        later = DiskSpec("d", str(source), "/d", readonly=True, shifted=True)
        file = DiskSpec("f", str(source / "file"), "/f", readonly=True, shifted=True)
        await container.change_disks([], [later, file])
        for path in ("/s", "/d", "/f"):
            script = (
                f"busybox mount -o remount,bind,rw {path} 2>/dev/null; busybox mount -o remount,rw {path} 2>/dev/null;"
                f"busybox mount | busybox grep ' {path} ' | busybox grep -c '(ro'"
            )
            assert await run(container, script, place) == "1\n", path
        assert await run(container, "(echo x >/f) 2>/dev/null || echo refused", place) == "refused\n"
        assert (source / "file").read_text() == "text\n"

    with_containers(body)


def test_a_change_that_fails_takes_back_what_it_did(
    with_containers: With, spec: Spec, source: Path, place: Path
) -> None:
    async def body(containers: LxcContainers) -> None:
        old = DiskSpec("s", str(source), "/s", shifted=True)
        container = await containers.start(spec("sleep", "1000", disks=(old,)))
        new = DiskSpec("n", str(source), "/n", shifted=True)
        wrong = DiskSpec("w", str(source), "/z/../bin/busybox", shifted=True)
        with pytest.raises(InvalidRequestError, match='disk "w"'):
            await container.change_disks([old], [new, wrong])
        assert await run(container, "cat /s/file; ls /n", place) == "text\n"
        gone = DiskSpec("g", str(source / "none"), "/g")
        with pytest.raises(InvalidRequestError, match="Missing source"):
            await container.change_disks([old], [gone])
        assert await run(container, "cat /s/file", place) == "text\n"

    with_containers(body)
