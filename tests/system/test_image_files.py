"""Image files that nobody should trust, and layers of images that a power cut took: the store with real workers."""

import asyncio
import hashlib
import io
import json
import lzma
import os
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lxdpy.config import Config, ImagesConfig
from lxdpy.drivers.base import Compression, ImageFiles, PackSpec, image_layer_id
from lxdpy.drivers.store import LayerStore
from lxdpy.errors import DigestMismatchError, InvalidRequestError, LayerError, NotFoundError, UnsupportedError
from tests.fakes.tars import Tar
from tests.system import lxd_images

pytestmark = pytest.mark.root

METADATA = b"architecture: x86_64\ncreation_date: 1\n"
Scenario = Callable[[LayerStore], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Run scenarios one after the other, each on a new store over the same directory."""

    def run(*scenarios: Scenario, **limits: int) -> None:
        async def one(scenario: Scenario) -> None:
            store = LayerStore(Config(state_dir=tmp_path, images=ImagesConfig(**limits)))
            try:
                await scenario(store)
            finally:
                await store.close()

        for scenario in scenarios:
            asyncio.run(one(scenario))

    return run


def whole(tar: Tar | None = None) -> Tar:
    """A good beginning."""
    return (tar or Tar()).file("metadata.yaml", METADATA).directory("rootfs/").directory("rootfs/etc/")


async def receive(store: LayerStore, *files: bytes) -> ImageFiles:
    incoming = store.receive()
    for number, data in enumerate(files):
        if number:
            await incoming.next_file()
        await incoming.write(data)
    return await incoming.finish()


async def unpack(store: LayerStore, *files: bytes) -> Path:
    """Have an image unpacked; its root file system."""
    received = await receive(store, *files)
    layer = await store.unpack_image(received)
    store.release((layer.id,))
    return store.image_directory(received.fingerprint) / "fs"


def left(directory: Path) -> list[str]:
    """What a failed import has left."""
    found = [path for part in ("ingest", "layers", "blobs/sha256") for path in (directory / part).iterdir()]
    return [str(path) for path in found if not path.name.startswith(".tmp-")]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no tar at all " * 100, "Malformed"),
        (b"", "empty"),
        (whole().symlink("rootfs", "/etc").bytes(), "no directory"),
        (Tar().file("metadata.yaml", METADATA).symlink("rootfs", "/").file("rootfs/x").bytes(), "no directory"),
        (whole().file("rootfs/../../x").bytes(), r"\.\."),
        (whole().hardlink("rootfs/passwd", "/etc/passwd").bytes(), "links to"),
        (whole().hardlink("rootfs/passwd", "../etc/passwd").bytes(), "links to"),
        (whole().hardlink("rootfs/passwd", "metadata.yaml").bytes(), "links to"),
        (whole().hardlink("rootfs/a", "rootfs/nothing").bytes(), "not in the image"),
        (Tar().symlink("metadata.yaml", "/etc/passwd").directory("rootfs/").bytes(), "no plain file"),
        (whole().symlink("templates/x", "/etc/shadow").bytes(), "no plain file"),
        (whole().file("templates/deep/x").bytes(), "no plain file"),
        (whole().add("rootfs/dev", b"3", device=(0, 0)).bytes(), "whiteout in disguise"),
        (Tar().file("metadata.yaml", b"a: [" * 1000).directory("rootfs/").bytes(), "nested"),
        (Tar().file("metadata.yaml", bytes(300_000)).directory("rootfs/").bytes(), "limit"),
        (whole().file("oci.json", b"no json").bytes(), "no JSON"),
        (whole().bytes()[:1100], "ends"),
        (lzma.compress(whole().file("rootfs/zeros", bytes(3_000_000)).bytes()), "limit"),
        (whole(Tar().raw(b"".join(Tar().file(f"junk{n}").data for n in range(4000)))).bytes(), "limit"),
        (whole(Tar()).raw(b"".join(Tar().file(f"rootfs/{n}").data for n in range(300))).bytes(), "entries"),
    ],
)
def test_what_can_not_be_trusted_is_refused(play: Callable[..., None], tmp_path: Path, data: bytes, why: str) -> None:
    async def scenario(store: LayerStore) -> None:
        incoming = store.receive()
        try:
            await incoming.write(data)
            with pytest.raises((LayerError, InvalidRequestError), match=why):
                await store.unpack_image(await incoming.finish())
        finally:
            incoming.discard()

    play(scenario, max_unpacked_bytes=2_000_000, max_entries=200)
    assert left(tmp_path) == []


def test_virtual_machines_and_wrong_fingerprints(play: Callable[..., None]) -> None:
    async def scenario(store: LayerStore) -> None:
        with pytest.raises(UnsupportedError, match="virtual machine"):
            await unpack(store, Tar().file("metadata.yaml", METADATA).file("rootfs.img", b"x").bytes())
        files = await receive(store, whole().bytes())
        wrong = ImageFiles("0" * 64, files.metadata)
        with pytest.raises(DigestMismatchError, match="fingerprint"):
            await store.unpack_image(wrong)
        incoming = store.receive()
        with pytest.raises(InvalidRequestError, match="empty"):
            await incoming.next_file()
        await incoming.write(b"x")
        await incoming.next_file()
        await incoming.write(b"y")
        with pytest.raises(InvalidRequestError, match="more than 2"):
            await incoming.next_file()
        incoming.discard()

    play(scenario)


def test_names_are_what_they_are(play: Callable[..., None]) -> None:
    """No whiteouts; nothing beside rootfs/ but what is known; spellings of the same path are the same."""

    async def scenario(store: LayerStore) -> None:
        tar = Tar().file("./metadata.yaml", METADATA).file("readme", b"x").file("./rootfs//etc/.wh.x", b"1")
        tar.file("rootfs/./etc/.wh..wh.plnk", b"2").directory("rootfs/.wh.d").file("rootfs/.wh.d/y", b"3")
        tar.hardlink("rootfs/h", "./rootfs/etc/.wh.x").hardlink("rootfs/early", "rootfs/late").file("rootfs/late")
        root = await unpack(store, tar.bytes())
        assert (root / "etc/.wh.x").read_bytes() == b"1"
        assert (root / "etc/.wh..wh.plnk").read_bytes() == b"2"
        assert (root / ".wh.d/y").read_bytes() == b"3"
        assert (root / "h").stat().st_nlink == 2
        assert (root / "early").stat().st_nlink == 2
        assert sorted(os.listdir(root)) == [".wh.d", "early", "etc", "h", "late"]
        assert sorted(os.listdir(root.parent)) == ["fs", "meta.json", "metadata.yaml", "templates"]

    play(scenario)


def test_a_layer_that_a_power_cut_took_is_unpacked_again(play: Callable[..., None], tmp_path: Path) -> None:
    meta, rootfs = Tar().file("metadata.yaml", METADATA).bytes(), Tar().file("etc/x", b"1").bytes()
    fingerprint = hashlib.sha256(meta + rootfs).hexdigest()
    files = ()

    async def first(store: LayerStore) -> None:
        nonlocal files
        received = await receive(store, meta, rootfs)
        files = tuple(file.digest for file in received.all)
        store.release(((await store.unpack_image(received)).id,))

    def cut() -> None:
        path = tmp_path / "layers" / image_layer_id(fingerprint) / "meta.json"
        document = json.loads(path.read_bytes())
        assert document["durable"] is False
        path.write_text(json.dumps({**document, "boot_id": "another"}))

    async def second(store: LayerStore) -> None:
        assert store.layer(image_layer_id(fingerprint)) is None
        with pytest.raises(NotFoundError):
            store.image_directory(fingerprint)
        blobs = [store.image_file(digest) for digest in files]
        layer = await store.unpack_image(ImageFiles(fingerprint, *blobs))
        store.release((layer.id,))
        assert (store.image_directory(fingerprint) / "fs/etc/x").read_bytes() == b"1"
        assert (store.image_directory(fingerprint) / "metadata.yaml").read_bytes() == METADATA

    async def third(store: LayerStore) -> None:
        store._disk.blob(files[1]).write_bytes(b"damaged")
        await store.collect(set(), set(files))
        with pytest.raises(DigestMismatchError):
            await store.unpack_image(ImageFiles(fingerprint, *[store.image_file(digest) for digest in files]))

    play(first)
    cut()
    play(second, third)


def test_two_who_import_the_same_share_a_job(play: Callable[..., None], tmp_path: Path) -> None:
    async def scenario(store: LayerStore) -> None:
        data = whole().file("rootfs/etc/x", b"1").bytes()
        received = [await receive(store, data) for _ in range(3)]
        layers = await asyncio.gather(*(store.unpack_image(files) for files in received))
        assert len({layer.id for layer in layers}) == 1
        store.release([layer.id for layer in layers])
        assert [path.name for path in (tmp_path / "blobs/sha256").iterdir()] == [hashlib.sha256(data).hexdigest()]
        assert list((tmp_path / "ingest").iterdir()) == []
        # Nothing holds it: it is garbage.
        collected = await store.collect(set(), set())
        assert (collected.layers, collected.blobs) == (1, 1)

    play(scenario)


def test_a_cancelled_import_leaves_nothing(play: Callable[..., None], tmp_path: Path) -> None:
    async def scenario(store: LayerStore) -> None:
        tar = whole()
        for number in range(50):
            tar.file(f"rootfs/{number}", os.urandom(200_000))
        incoming = store.receive()
        await incoming.write(lzma.compress(tar.bytes(), preset=0))
        task = asyncio.create_task(store.unpack_image(await incoming.finish()))
        while not any(path.name.startswith(".tmp-") for path in (tmp_path / "layers").iterdir()):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        incoming.discard()

    play(scenario)
    assert left(tmp_path) == []


def test_what_is_packed_comes_back(play: Callable[..., None], tmp_path: Path) -> None:
    """A stack of layers, with whiteouts, as one: with every kind of file, and names that are no UTF-8."""

    async def scenario(store: LayerStore) -> None:
        tar = whole().file("rootfs/etc/gone").file("rootfs/etc/kept", b"k", pax={"SCHILY.xattr.user.a": b"\xff\0x"})
        tar.file(b"rootfs/\xff\xfe", b"odd", mode=0o6751, uid=3_000_000_000, gid=7)
        tar.file("x", b"deep", pax={"path": "rootfs/" + "long/" * 60 + "x"}).hardlink(
            "rootfs/etc/link", "rootfs/etc/kept"
        )
        tar.symlink("rootfs/s", b"\xfe").add("rootfs/null", b"3", device=(1, 3), mode=0o666).add("rootfs/f", b"6")
        received = await receive(store, tar.bytes())
        base = await store.unpack_image(received)
        upper = tmp_path / "upper"
        (upper / "etc").mkdir(parents=True)
        os.mknod(upper / "etc/gone", 0o20000, os.makedev(0, 0))
        (upper / "big").write_bytes(os.urandom(3_000_000))
        counts: list[int] = []
        spec = PackSpec((base.id,), upper, METADATA, None, b'{"rootfs": {"type": "layers"}}', 1, Compression("zstd"))
        packed = await store.pack_image(spec, counts.append)
        layer = await store.unpack_image(packed)
        store.release((base.id, layer.id))
        store.discard_files(packed)
        old = store.image_directory(received.fingerprint) / "fs"
        new = store.image_directory(packed.fingerprint) / "fs"
        assert not (new / "etc/gone").exists()
        assert (new / "big").read_bytes() == (upper / "big").read_bytes()
        assert os.getxattr(new / "etc/kept", "user.a") == b"\xff\0x"
        assert (new / "etc/kept").stat().st_ino == (new / "etc/link").stat().st_ino
        for name in (b"\xff\xfe", b"s", b"null", b"f", b"long/" * 60 + b"x"):
            one, two = os.lstat(os.fsencode(old) + b"/" + name), os.lstat(os.fsencode(new) + b"/" + name)
            assert [(s.st_mode, s.st_uid, s.st_gid, s.st_rdev, s.st_size, int(s.st_mtime)) for s in (one,)] == [
                (s.st_mode, s.st_uid, s.st_gid, s.st_rdev, s.st_size, int(s.st_mtime)) for s in (two,)
            ]
        assert os.readlink(os.fsencode(new) + b"/s") == b"\xfe"
        assert (new.parent / "oci.json").exists()
        assert counts == sorted(counts)

    play(scenario)


def test_a_layer_alone_is_packed_too(play: Callable[..., None]) -> None:
    async def scenario(store: LayerStore) -> None:
        received = await receive(store, whole().file("rootfs/x", b"1").bytes())
        base = await store.unpack_image(received)
        packed = await store.pack_image(
            PackSpec((base.id,), None, METADATA, None, None, 1, Compression("none")), lambda _: None
        )
        assert packed.metadata.path is not None
        with tarfile.open(fileobj=io.BytesIO(packed.metadata.path.read_bytes())) as archive:
            assert archive.getnames() == ["metadata.yaml", "rootfs", "rootfs/x", "rootfs/etc"]
        store.discard_files(packed)
        store.release((base.id,))

    play(scenario)


def test_a_worker_without_squashfs_tools_says_so(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lxdpy.drivers.store.worker._PATH", "/nowhere")

    async def scenario(store: LayerStore) -> None:
        with pytest.raises(UnsupportedError, match="squashfs-tools-ng"):
            await unpack(store, b"hsqs" + bytes(1000))

    play(scenario)
    assert lxd_images.BUSYBOX.exists()
