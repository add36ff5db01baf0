"""Stacks of layers as the overlay driver mounts them, in either way."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxdpy.drivers.base import FileAttributes, IdMap, LowerMount, StartSpec, StoppedRootfs
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.drivers.liblxc.containers import PYTHON, WORKER, start_request
from lxdpy.drivers.liblxc.files import LxcFiles, files_request
from lxdpy.drivers.overlay.stack import DIRECTORY, Owner, mount_stack
from lxdpy.drivers.zygote import Zygote
from lxdpy.errors import LxdpyError, UnsupportedError, WorkerError
from lxdpy.linux import mount
from lxdpy.linux.idmap import file_system_ids, open_userns

pytestmark = [pytest.mark.root, pytest.mark.overlay]

BASE = 1_000_000
WAYS = pytest.mark.parametrize("by_name", [False, True], ids=["descriptors", "names"])
OWNERS = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "plain"])


def in_child(body: Callable[[], None]) -> None:
    """Run `body` in a process that may unshare; what it raises fails the test."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException as exc:  # noqa: BLE001 - it is raised again on the other side
            os.write(write, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        failure = file.read().decode()
    os.waitpid(pid, 0)
    assert failure == ""


def make_layers(place: Path, count: int) -> list[tuple[str, str]]:
    """Topmost first, with long names; each has a file of its own, /who, and a file of user 100."""
    layers = []
    for number in range(count):
        layer = place / f"{number:064}"
        layer.mkdir()
        (layer / "who").write_text(str(number))
        (layer / f"only-{number}").write_text("")
        os.chown(layer / "who", 100, 101)
        layers.insert(0, (DIRECTORY, str(layer)))
    return layers


def make_instance(place: Path) -> tuple[str, str]:
    for name in ("rw/upper", "rw/work", "rootfs"):
        (place / name).mkdir(parents=True)
    return str(place / "rw"), str(place / "rootfs")


@WAYS
@OWNERS
@pytest.mark.parametrize("count", [0, 1, 3, 400])
def test_stack(place: Path, count: int, mapped: bool, by_name: bool) -> None:
    layers = make_layers(place, count)
    rw, scratch = make_instance(place)

    def body() -> None:
        owner = Owner(open_userns(BASE, 65_536), BASE) if mapped else None
        root = mount_stack(layers, rw, owner, scratch, by_name=by_name)
        mount.unshare(mount.CLONE_NEWNS)
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
        mount.move_mount(root, scratch)
        os.chdir(scratch)
        shift = BASE if mapped else 0
        assert len(os.listdir(".")) == (count + 1 if count else 0)
        if count:
            with open("who") as file:
                assert file.read() == str(count - 1)
            status = os.stat("who")
            assert (status.st_uid, status.st_gid) == (100 + shift, 101 + shift)
        with file_system_ids(shift, shift):
            os.mkdir("made")
            if count:
                os.unlink("only-0")
        assert os.stat("made").st_uid == shift

    in_child(body)
    # Real ids on disk, and a whiteout.
    upper = Path(rw, "upper")
    assert (upper / "made").stat().st_uid == 0
    if count:
        assert (upper / "only-0").is_char_device()
        assert os.stat(layers[-1][1] + "/only-0").st_uid == 0


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL], ids=errno.errorcode.get)
def test_kernel_that_takes_no_descriptors(place: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    layers = make_layers(place, 2)
    rw, scratch = make_instance(place)
    fsconfig = mount.fsconfig

    def old_fsconfig(fd: int, command: int, *arguments: Any) -> None:
        if command == mount.FSCONFIG_SET_FD:
            raise OSError(refusal, os.strerror(refusal))
        fsconfig(fd, command, *arguments)

    def body() -> None:
        monkeypatch.setattr(mount, "fsconfig", old_fsconfig)
        os.fchdir(mount_stack(layers, rw, None, scratch))
        assert sorted(os.listdir(".")) == ["only-0", "only-1", "who"]

    in_child(body)


def test_more_layers_than_overlayfs_takes(place: Path) -> None:
    rw, scratch = make_instance(place)
    with pytest.raises(UnsupportedError, match="Cannot stack 501 layers: overlayfs takes 500"):
        mount_stack([(DIRECTORY, str(place))] * 501, rw, None, scratch)


def test_failure_names_what_failed(place: Path) -> None:
    rw, scratch = make_instance(place)
    with pytest.raises(WorkerError, match=r"No such file or directory \(/nowhere\)"):
        mount_stack([(DIRECTORY, "/nowhere")], rw, None, scratch)
    with pytest.raises(LxdpyError, match="unknown kind 'tape'"):
        mount_stack([("tape", "/x")], rw, None, scratch)


def test_nothing_is_mounted_on_the_host(place: Path) -> None:
    rw, scratch = make_instance(place)
    layers = make_layers(place, 2)
    host = Path(f"/proc/{os.getpid()}/mountinfo")

    def body() -> None:
        mount_stack(layers, rw, None, scratch)
        assert str(place) not in host.read_text()

    in_child(body)


@pytest.mark.lxc
@pytest.mark.parametrize("idmap", [IdMap(BASE, 65_536), None], ids=["unprivileged", "privileged"])
def test_container_on_a_stack_by_names(
    spec: Callable[..., StartSpec],
    with_containers: Callable[[Callable[[LxcContainers], Any]], None],
    idmap: IdMap | None,
) -> None:
    """As on kernels before 6.13; the driver of the running daemon adopts it."""

    async def body(containers: LxcContainers) -> None:
        made = spec("sh", "-c", "touch /made && echo up; sleep 100", idmap=idmap)
        zygote = Zygote("lifecycle", (PYTHON, "-I", "-S", WORKER))
        with await zygote.job({**start_request(made), "mount_by_name": True}) as job:
            message: dict[str, object] = {}
            while "running" not in message:
                message, fds = await job.receive(10)
                for fd in fds:
                    os.close(fd)
        await zygote.close()
        container = await containers.adopt(made.name, made.lxc_path, made.directory, made.cgroup)
        assert container is not None
        async with asyncio.timeout(10):
            while not os.path.exists(f"{made.directory}/rw/upper/made"):  # noqa: ASYNC240
                await asyncio.sleep(0.01)
        container.signal(9)
        await container.released()

    with_containers(body)


@WAYS
def test_files_of_a_stopped_instance(place: Path, by_name: bool) -> None:
    """Its layers are mounted while the session lasts, and no longer: the next mount of them may be a container's."""
    layers = make_layers(place, 3)
    rw, scratch = make_instance(place)
    rootfs = StoppedRootfs("web", tuple(LowerMount(kind, path) for kind, path in layers), rw, scratch)

    async def body() -> None:
        zygote = Zygote("lifecycle", (PYTHON, "-I", "-S", WORKER))
        for turn in range(3):
            job = await zygote.job({**files_request(rootfs), "mount_by_name": by_name})
            session = await LxcFiles.begin("web", job)
            found = await session.open("/who")
            assert found.fd is not None
            assert os.read(found.fd, 10) == b"2"
            os.close(found.fd)
            written = await session.write(f"/new{turn}", FileAttributes(uid=7, mode=0o640), append=False)
            os.write(written.fd, b"new")
            device = os.fstat(written.fd).st_dev
            os.close(written.fd)
            assert os.path.exists(f"/proc/{job.pid}/root")  # noqa: ASYNC240
            await session.close()
            assert not os.path.exists(f"/proc/{job.pid}/root")  # noqa: ASYNC240
            with pytest.raises(WorkerError, match="the session has ended"):
                await session.status("/who")
            status = os.stat(f"{rw}/upper/new{turn}")
            assert (status.st_uid, status.st_mode & 0o777) == (7, 0o640)
            assert status.st_dev != device
        await zygote.close()

    asyncio.run(body())
    assert os.listdir(scratch) == []
