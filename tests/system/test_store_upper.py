"""Upper directories in the store: claimed, adopted, copied, collected."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lxdpy.config import Config
from lxdpy.drivers.base import upper_layer_id
from lxdpy.drivers.store import LayerStore
from lxdpy.errors import NotFoundError, WorkerError
from tests.system.unpacking import tree

pytestmark = pytest.mark.root

RW = "rw-00ff"
LAYER = upper_layer_id(RW)
# A file capability, cap_net_raw+ep.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
def state(place: Path) -> Path:
    return place / "state"


def on(state: Path, body: Callable[[LayerStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = LayerStore(Config(state_dir=state))
        try:
            await body(store)
        finally:
            await store.close()

    state.mkdir(exist_ok=True)
    asyncio.run(main())


@pytest.fixture
def upper(state: Path) -> Path:
    """What a container may leave: whiteouts, an opaque directory, hard links, odd modes, owners and times."""
    path = state / "instances/web" / RW / "upper"
    (path / "opaque").mkdir(parents=True)
    os.setxattr(path / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(path / "whiteout", stat.S_IFCHR, 0)
    os.mkfifo(path / "fifo", 0o601)
    (path / "file").write_text("text")
    os.link(path / "file", path / "opaque/link")
    os.setxattr(path / "file", "user.note", b"\0\xff")
    os.chown(path / "file", 1000, 1001)
    os.chmod(path / "file", 0o4755)
    os.setxattr(path / "file", "security.capability", CAPABILITY)
    os.symlink("../../etc/passwd", path / "symlink")
    os.lchown(path / "symlink", 5, 6)
    with (path / "sparse").open("wb") as file:
        file.truncate(1 << 24)
    (path / os.fsdecode(b"no\xfftext")).write_text("")
    os.utime(path / "file", ns=(1, 1_234_567_890_123_456_789))
    path.chmod(0o1711)
    return path


def test_an_upper_directory_becomes_a_layer(state: Path, upper: Path) -> None:
    inode = upper.stat().st_ino

    async def first(store: LayerStore) -> None:
        store.claim(LAYER)
        assert store.layer(LAYER) is None
        with pytest.raises(NotFoundError):
            store.lower_mounts([LAYER])
        store.adopt(LAYER, upper)
        (mount,) = store.lower_mounts([LAYER])
        assert os.stat(mount.path).st_ino == inode

    async def second(store: LayerStore) -> None:
        # Nothing could rebuild it: it is whole whatever happened to the host.
        layer = store.layer(LAYER)
        assert layer is not None
        assert layer.diff_id is None
        await store.collect({LAYER}, set())
        assert store.layer(LAYER) is not None
        assert (await store.collect(set(), set())).layers == 1
        assert store.layer(LAYER) is None
        assert list((state / "layers").iterdir()) == []

    on(state, first)
    on(state, second)


def test_a_claim_that_nobody_keeps_is_garbage(state: Path, upper: Path) -> None:
    async def first(store: LayerStore) -> None:
        store.claim(LAYER)
        await store.collect({LAYER}, set())
        assert (state / "layers" / LAYER).is_dir()

    async def second(store: LayerStore) -> None:
        # As when the daemon died between a commit and the rename.
        store.claim(LAYER)
        store.adopt(LAYER, upper)

    async def third(store: LayerStore) -> None:
        store.claim("s-1234")
        await store.collect({LAYER}, set())
        assert [path.name for path in (state / "layers").iterdir()] == [LAYER]

    on(state, first)
    on(state, second)
    on(state, third)


def test_a_copy_is_the_same(state: Path, upper: Path) -> None:
    async def body(store: LayerStore) -> None:
        target = state / "copy"
        await store.copy_directory(upper, target)
        await store.sync()
        assert tree(target) == tree(upper)
        assert (target / "file").stat().st_ino == (target / "opaque/link").stat().st_ino
        assert (target / "file").stat().st_mtime_ns == 1_234_567_890_123_456_789
        assert os.getxattr(target / "file", "security.capability") == CAPABILITY
        assert os.getxattr(target / "opaque", "trusted.overlay.opaque") == b"y"
        assert (target / "sparse").stat().st_blocks == 0
        assert stat.S_ISCHR((target / "whiteout").lstat().st_mode)
        assert stat.S_IMODE(target.stat().st_mode) == 0o1711

    on(state, body)


def test_copies_that_fail(state: Path, upper: Path) -> None:
    async def body(store: LayerStore) -> None:
        with pytest.raises(WorkerError, match=r"Cannot copy .*/none: cannot stat"):
            await store.copy_directory(upper / "none", state / "copy")
        job = asyncio.create_task(store.copy_directory(upper, state / "cancelled"))
        await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        with pytest.raises(WorkerError):
            store.adopt(LAYER, upper / "none")

    on(state, body)


def test_the_root_of_a_layer(state: Path, upper: Path) -> None:
    async def body(store: LayerStore) -> None:
        os.setxattr(upper, "user.root", b"1")
        os.setxattr(upper, "trusted.overlay.impure", b"y")
        os.chown(upper, 7, 8)
        store.claim(LAYER)
        store.adopt(LAYER, upper)
        empty = state / "empty"
        empty.mkdir(mode=0o755)
        assert not store.adds_nothing(LAYER, empty)
        store.copy_root(LAYER, empty)
        status = empty.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o1711)
        assert os.listxattr(empty) == ["user.root"]
        assert store.adds_nothing(LAYER, empty)
        (empty / "file").touch()
        assert not store.adds_nothing(LAYER, empty)
        for call in (store.copy_root, store.adds_nothing):
            with pytest.raises(NotFoundError):
                call("s-none", empty)

    on(state, body)
