"""Backups that come from anybody: what is no backup is refused, and nothing of it stays."""

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxdpy.config import Config
from lxdpy.drivers.base import UnpackedBackup
from lxdpy.drivers.store import LayerStore
from lxdpy.errors import LayerError, UnsupportedError

pytestmark = [pytest.mark.root, pytest.mark.overlay]

Add = Callable[[tarfile.TarFile], None]
TOP = "backup/container"


def entry(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


def directory(archive: tarfile.TarFile, name: str) -> None:
    entry(archive, name, type=tarfile.DIRTYPE, mode=0o755)


def whole(archive: tarfile.TarFile, part: str = TOP) -> None:
    """A root file system that is right."""
    directory(archive, part)
    entry(archive, f"{part}/backup.yaml", b"x: y")
    directory(archive, f"{part}/rootfs")
    entry(archive, f"{part}/rootfs/file", b"text", uid=7, gid=8)
    entry(archive, f"{part}/rootfs/twin", type=tarfile.LNKTYPE, linkname=f"{part}/rootfs/file")


def indexed(archive: tarfile.TarFile) -> None:
    entry(archive, "backup/index.yaml", b"name: c1")
    whole(archive)


def unpack(
    place: Path, add: Add, check: Callable[[UnpackedBackup], None] | None = None, *, volume: bool = False
) -> None:
    """Unpack an archive as the daemon does; nothing is left once it is discarded, or was refused."""
    file = place / "backup.tar"
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive)

    async def main() -> None:
        store = LayerStore(Config(state_dir=place))
        try:
            unpacked = await store.unpack_backup(file, volume=volume)
            if check is not None:
                check(unpacked)
            store.discard_backup(unpacked)
        finally:
            await store.close()

    try:
        asyncio.run(main())
    finally:
        LayerStore(Config(state_dir=place))
        assert not [name for name in os.listdir(place / "layers") if not name.startswith(".trash")]


def test_every_part_is_a_tree_of_its_own(place: Path) -> None:
    def add(archive: tarfile.TarFile) -> None:
        indexed_first = ("backup/snapshots/s0", "backup/snapshots/s 1")
        entry(archive, "backup/index.yaml", b"name: c1")
        for part in indexed_first:
            whole(archive, part)
        whole(archive)
        entry(archive, f"{TOP}/metadata.yaml", b"architecture: x86_64\ncreation_date: 1700000000\n")
        directory(archive, f"{TOP}/templates")
        entry(archive, f"{TOP}/templates/a.tpl", b"{{ x }}")

    def check(unpacked: UnpackedBackup) -> None:
        assert list(unpacked.parts) == ["snapshots/s0", "snapshots/s 1", "container"]
        assert (unpacked.directory / "index.yaml").read_text() == "name: c1"
        for part in unpacked.parts.values():
            found = (part / "fs/file").stat()
            assert (found.st_uid, found.st_gid, found.st_nlink) == (7, 8, 2)
            assert (part / "fs/file").read_text() == "text"
            assert sorted(os.listdir(part / "fs")) == ["file", "twin"]
        container = unpacked.parts["container"]
        assert (container / "templates/a.tpl").read_text() == "{{ x }}"
        assert stat.S_IMODE(container.stat().st_mode) == 0o700

    unpack(place, add, check)


def test_files_named_like_whiteouts_are_files(place: Path) -> None:
    def add(archive: tarfile.TarFile) -> None:
        indexed(archive)
        entry(archive, f"{TOP}/rootfs/.wh.file", b"kept")

    unpack(place, add, assert_kept)


def assert_kept(unpacked: UnpackedBackup) -> None:
    assert sorted(os.listdir(unpacked.parts["container"] / "fs")) == [".wh.file", "file", "twin"]


def nothing(archive: tarfile.TarFile) -> None:
    pass


def no_index(archive: tarfile.TarFile) -> None:
    whole(archive)


def no_container(archive: tarfile.TarFile) -> None:
    entry(archive, "backup/index.yaml", b"name: c1")
    whole(archive, "backup/snapshots/s0")


def two_indexes(archive: tarfile.TarFile) -> None:
    indexed(archive)
    entry(archive, "backup/index.yaml", b"name: c2")


def part_twice(archive: tarfile.TarFile) -> None:
    indexed(archive)
    whole(archive, "backup/snapshots/s0")
    entry(archive, f"{TOP}/rootfs/more", b"x")


def link_to_another_part(archive: tarfile.TarFile) -> None:
    entry(archive, "backup/index.yaml", b"name: c1")
    whole(archive, "backup/snapshots/s0")
    whole(archive)
    entry(archive, f"{TOP}/rootfs/link", type=tarfile.LNKTYPE, linkname="backup/snapshots/s0/rootfs/file")


def link_to_what_is_beside(archive: tarfile.TarFile) -> None:
    indexed(archive)
    entry(archive, f"{TOP}/rootfs/link", type=tarfile.LNKTYPE, linkname=f"{TOP}/backup.yaml")


def outside(archive: tarfile.TarFile) -> None:
    indexed(archive)
    entry(archive, f"{TOP}/rootfs/../../../../escaped", b"x")


def through_a_link(archive: tarfile.TarFile) -> None:
    indexed(archive)
    entry(archive, f"{TOP}/rootfs/out", type=tarfile.SYMTYPE, linkname="/var/tmp")
    entry(archive, f"{TOP}/rootfs/out/lxdpy-escaped", b"x")


def rootfs_is_a_link(archive: tarfile.TarFile) -> None:
    entry(archive, "backup/index.yaml", b"name: c1")
    entry(archive, f"{TOP}/rootfs", type=tarfile.SYMTYPE, linkname="/var/tmp")


def something_else(archive: tarfile.TarFile) -> None:
    indexed(archive)
    entry(archive, "backup/volume/file", b"x")


def index_is_a_link(archive: tarfile.TarFile) -> None:
    entry(archive, "backup/index.yaml", type=tarfile.SYMTYPE, linkname="/etc/shadow")
    whole(archive)


@pytest.mark.parametrize(
    "add",
    [
        nothing,
        no_index,
        no_container,
        two_indexes,
        part_twice,
        link_to_another_part,
        link_to_what_is_beside,
        outside,
        rootfs_is_a_link,
        something_else,
        index_is_a_link,
    ],
)
def test_what_is_no_backup_is_refused(place: Path, add: Add) -> None:
    with pytest.raises(LayerError):
        unpack(place, add)
    assert sorted(set(os.listdir(place)) & {"escaped"}) == []


def test_a_link_leads_nowhere_out(place: Path) -> None:
    try:
        unpack(place, through_a_link)
    except LayerError:
        pass
    assert "lxdpy-escaped" not in os.listdir("/var/tmp")


@pytest.mark.parametrize("name", ["backup/virtual-machine/rootfs.img", "backup/container.bin"])
def test_what_lxd_has_besides_is_named(place: Path, name: str) -> None:
    def add(archive: tarfile.TarFile) -> None:
        entry(archive, "backup/index.yaml", b"name: c1")
        entry(archive, name, b"x")

    with pytest.raises(UnsupportedError):
        unpack(place, add)


def test_one_that_is_too_large_is_refused(place: Path) -> None:
    def add(archive: tarfile.TarFile) -> None:
        indexed(archive)
        for number in range(50):
            entry(archive, f"{TOP}/rootfs/{number}", b"x")

    file = place / "backup.tar"
    with tarfile.open(file, "w") as archive:
        add(archive)

    async def main() -> None:
        config = Config(state_dir=place)
        limited = type(config.images)(max_entries=20)
        store = LayerStore(type(config)(state_dir=place, images=limited))
        try:
            with pytest.raises(LayerError):
                await store.unpack_backup(file)
        finally:
            await store.close()

    asyncio.run(main())


def bare(archive: tarfile.TarFile, part: str) -> None:
    directory(archive, part)
    entry(archive, f"{part}/rootfs", b"a file like any other", uid=7)
    entry(archive, f"{part}/twin", type=tarfile.LNKTYPE, linkname=f"{part}/rootfs")


def test_a_volumes_files_are_right_there(place: Path) -> None:
    def add(archive: tarfile.TarFile) -> None:
        entry(archive, "backup/index.yaml", b"name: v")
        bare(archive, "backup/volume-snapshots/s0")
        bare(archive, "backup/volume")

    def check(unpacked: UnpackedBackup) -> None:
        assert list(unpacked.parts) == ["volume-snapshots/s0", "volume"]
        for part in unpacked.parts.values():
            assert sorted(os.listdir(part / "fs")) == ["rootfs", "twin"]
            assert ((part / "fs/twin").stat().st_uid, (part / "fs/twin").stat().st_nlink) == (7, 2)

    unpack(place, add, check, volume=True)


@pytest.mark.parametrize("volume", [False, True])
def test_an_instance_is_no_volume(place: Path, volume: bool) -> None:
    def add(archive: tarfile.TarFile) -> None:
        entry(archive, "backup/index.yaml", b"name: v")
        if volume:
            whole(archive)
        else:
            bare(archive, "backup/volume")

    with pytest.raises(LayerError, match="no backup of a"):
        unpack(place, add, volume=volume)


def test_a_volumes_link_to_a_snapshot_is_refused(place: Path) -> None:
    def add(archive: tarfile.TarFile) -> None:
        entry(archive, "backup/index.yaml", b"name: v")
        bare(archive, "backup/volume-snapshots/s0")
        bare(archive, "backup/volume")
        entry(archive, "backup/volume/link", type=tarfile.LNKTYPE, linkname="backup/volume-snapshots/s0/rootfs")

    with pytest.raises(LayerError, match="links to"):
        unpack(place, add, volume=True)
