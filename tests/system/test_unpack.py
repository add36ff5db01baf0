"""What becomes of a layer's entries on disk: every row of what images may say, and the hostile ones.

The layers are made in this process, in tmp_path; what a worker is confined to is tested in test_store.py.
"""

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdpy.errors import LayerError
from lxdpy.linux.remove import remove
from lxdpy.workers.layers.tree import MAX_DEPTH, MAX_PATH_BYTES
from tests.fakes.tars import MTIME, Tar, header
from tests.system.unpacking import Layers, is_opaque, is_whiteout, tree

pytestmark = pytest.mark.root

MTIME_NS = MTIME * 10**9
# A v2 capability: effective, CAP_NET_RAW permitted.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    before = len(os.listdir("/proc/self/fd"))
    layers = Layers(tmp_path)
    yield layers
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(layers.canary)) == ["file"]
    assert (layers.canary / "file").read_text() == "untouched"
    # pytest's own rmtree can't go a thousand levels deep.
    for path in tmp_path.iterdir():
        remove(path)


# ---------------------------------------------------------------- plain entries


def test_files_directories_and_links(layers: Layers) -> None:
    tar = Tar().directory("./", mode=0o711, uid=3, gid=4).directory("./etc", mode=0o750, uid=1, gid=2)
    tar.file("./etc/passwd", b"root" * 500, mode=0o600, uid=10, gid=20).symlink("./etc/link", "/etc/passwd", uid=7)
    tar.hardlink("./etc/passwd2", "./etc/passwd").add("./pipe", b"6", mode=0o622)
    root = layers.unpack(tar)
    status = (root / "etc/passwd").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o600, 10, 20)
    assert status.st_mtime_ns == status.st_atime_ns == MTIME_NS
    assert status.st_nlink == 2
    assert (root / "etc/passwd2").samefile(root / "etc/passwd")
    assert (root / "etc/passwd").read_bytes() == b"root" * 500
    assert os.readlink(root / "etc/link") == "/etc/passwd"
    assert (root / "etc/link").lstat().st_uid == 7
    assert (root / "etc/link").lstat().st_mtime_ns == MTIME_NS
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)
    assert stat.S_IMODE((root / "pipe").lstat().st_mode) == 0o622
    etc = (root / "etc").stat()
    assert (stat.S_IMODE(etc.st_mode), etc.st_uid, etc.st_gid, etc.st_mtime_ns) == (0o750, 1, 2, MTIME_NS)
    top = root.stat()
    assert (stat.S_IMODE(top.st_mode), top.st_uid, top.st_gid, top.st_mtime_ns) == (0o711, 3, 4, MTIME_NS)
    assert layers.result.entries == 6
    assert layers.result.size_bytes == 2000
    assert not layers.result.deferred
    assert not layers.result.warnings


def test_root_without_an_entry(layers: Layers) -> None:
    root = layers.unpack(Tar().file("f"))
    status = root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)


def test_empty_layer(layers: Layers) -> None:
    assert list(layers.unpack(Tar()).iterdir()) == []


@pytest.mark.parametrize("chunk", [100, 512, 70_000, 1 << 20])
def test_contents_in_any_chunks(layers: Layers, chunk: int) -> None:
    data = os.urandom(200_000)
    root = layers.unpack(Tar().file("large", data).file("empty").file("small", b"x"), chunk=chunk)
    assert (root / "large").read_bytes() == data
    assert (root / "small").read_bytes() == b"x"


def test_special_bits(layers: Layers) -> None:
    tar = Tar().directory("shared", mode=0o2775, gid=50).file("shared/suid", mode=0o4755, uid=5)
    tar.file("shared/plain", mode=0o644).directory("shared/sub", mode=0o755).directory("tmp", mode=0o1777)
    root = layers.unpack(tar)
    assert stat.S_IMODE((root / "shared").stat().st_mode) == 0o2775
    assert stat.S_IMODE((root / "shared/suid").stat().st_mode) == 0o4755
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    # Nothing is inherited of the directory's group, or of its bit.
    assert (root / "shared/plain").stat().st_gid == 0
    assert (root / "shared/sub").stat().st_gid == 0
    assert stat.S_IMODE((root / "shared/sub").stat().st_mode) == 0o755


def test_directory_without_write_permission(layers: Layers) -> None:
    root = layers.unpack(Tar().directory("d", mode=0o555).file("d/f", mode=0))
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o555
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0


def test_capabilities_and_other_attributes(layers: Layers) -> None:
    pax = {
        "SCHILY.xattr.security.capability": CAPABILITY,
        "SCHILY.xattr.user.note": b"a=b\0c",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.mine": "x",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "context",
    }
    tar = Tar().file("ping", b"elf", mode=0o755, uid=1, pax=pax).directory("d", pax=pax).file("d/f")
    root = layers.unpack(tar)
    for name in ("ping", "d"):
        kept = set(os.listxattr(root / name))
        assert kept == {"security.capability", "user.note"}
        assert os.getxattr(root / name, "user.note") == b"a=b\0c"
    assert os.getxattr(root / "ping", "security.capability") == CAPABILITY
    assert any("trusted.overlay.opaque" in warning for warning in layers.result.warnings)


def test_malformed_capability_is_left_out(layers: Layers) -> None:
    root = layers.unpack(Tar().file("f", pax={"SCHILY.xattr.security.capability": "nonsense"}))
    assert os.listxattr(root / "f") == []
    assert layers.result.warnings


def test_times(layers: Layers) -> None:
    tar = Tar().directory("d", pax={"mtime": "1700000000.123456789"}).file("d/neg", mtime=-100)
    tar.file("d/far", mtime=2**40).file("d/ns", pax={"mtime": "1.5"})
    root = layers.unpack(tar)
    assert (root / "d").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (root / "d/neg").stat().st_mtime_ns == 0
    assert (root / "d/far").stat().st_mtime == 2**33
    assert (root / "d/ns").stat().st_mtime_ns == 1_500_000_000


def test_names_are_bytes(layers: Layers) -> None:
    root = layers.unpack(Tar().file(b"a\xff\xfe").file(b"line\nbreak").file("ü".encode()).file(b"\\back"))
    assert sorted(os.listdir(os.fsencode(root))) == sorted([b"a\xff\xfe", b"line\nbreak", "ü".encode(), b"\\back"])


def test_large_owner(layers: Layers) -> None:
    root = layers.unpack(Tar().file("f", uid=2**32 - 2, gid=100_000))
    assert ((root / "f").stat().st_uid, (root / "f").stat().st_gid) == (2**32 - 2, 100_000)


def test_devices(layers: Layers) -> None:
    tar = (
        Tar()
        .add("null", b"3", device=(1, 3), mode=0o666)
        .add("disk", b"4", device=(8, 0))
        .add("mem", b"3", device=(1, 1))
    )
    root = layers.unpack(tar)
    assert os.listdir(root) == ["null"]
    assert (root / "null").lstat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((root / "null").lstat().st_mode) == 0o666
    assert len(layers.result.warnings) == 2


def test_v7_and_odd_spellings(layers: Layers) -> None:
    stream = header(b"d/", b"\0", mode=0o755, magic=b"") + header(b"d//./f", b"\0", magic=b"") + header(b"/abs")
    root = layers.unpack(Tar().raw(stream))
    assert (root / "d/f").is_file()
    assert (root / "abs").is_file()


# ---------------------------------------------------------------- whiteouts


def test_whiteout(layers: Layers) -> None:
    root = layers.unpack(Tar().directory("d").file("d/.wh.gone"))
    assert is_whiteout(root / "d/gone")
    assert (root / "d").stat().st_mtime_ns == MTIME_NS
    assert not layers.result.deferred


@pytest.mark.parametrize("first", [True, False])
def test_opaque_first_or_last(layers: Layers, first: bool) -> None:
    tar = Tar().directory("d")
    if first:
        tar.file("d/.wh..wh..opq")
    tar.file("d/new").file("d/.wh.old").directory("d/sub").file("d/sub/.wh.older")
    if not first:
        tar.file("d/.wh..wh..opq")
    root = layers.unpack(tar)
    assert is_opaque(root / "d")
    assert sorted(os.listdir(root / "d")) == ["new", "sub"]
    assert os.listdir(root / "d/sub") == []
    assert (root / "d").stat().st_mtime_ns == MTIME_NS


@pytest.mark.parametrize("first", [True, False])
def test_whiteout_and_directory_is_opaque(layers: Layers, first: bool) -> None:
    tar = Tar()
    if first:
        tar.file(".wh.etc")
    tar.directory("etc", mode=0o700).file("etc/new")
    if not first:
        tar.file(".wh.etc")
    root = layers.unpack(tar)
    assert is_opaque(root / "etc")
    assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o700
    assert os.listdir(root / "etc") == ["new"]
    assert not layers.result.deferred


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", ["file", "symlink", "hardlink"])
def test_whiteout_and_file_is_the_file(layers: Layers, first: bool, kind: str) -> None:
    tar = Tar().file("other", b"x")
    if first:
        tar.file(".wh.f")
    if kind == "file":
        tar.file("f", b"new")
    elif kind == "symlink":
        tar.symlink("f", "other")
    else:
        tar.hardlink("f", "other")
    if not first:
        tar.file(".wh.f")
    root = layers.unpack(tar)
    assert not is_whiteout(root / "f")
    assert (root / "f").read_bytes() == (b"new" if kind == "file" else b"x")
    assert not layers.result.warnings


def test_whiteout_of_a_directory_that_only_has_children(layers: Layers) -> None:
    root = layers.unpack(Tar().file("etc/new").file(".wh.etc"))
    assert is_opaque(root / "etc")
    # It hides whatever is below, so there is nothing to ask for.
    assert not layers.result.deferred


def test_aufs_bookkeeping_is_skipped(layers: Layers) -> None:
    tar = Tar().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", b"x").file(".wh..wh.aufs").directory(".wh..wh.orph")
    root = layers.unpack(tar)
    assert os.listdir(root) == []
    assert not layers.result.deferred


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.x/y"])
def test_whiteouts_that_can_not_be(layers: Layers, name: str) -> None:
    with pytest.raises(LayerError):
        layers.unpack(Tar().directory("d").file(name))


def test_whiteout_in_disguise(layers: Layers) -> None:
    with pytest.raises(LayerError, match="disguise"):
        layers.unpack(Tar().add("passwd", b"3", device=(0, 0)))


def test_opaque_root_is_deferred(layers: Layers) -> None:
    root = layers.unpack(Tar().directory("d").file(".wh..wh..opq").file(".wh.x").file("p/q"))
    assert layers.result.deferred.opaque_root
    assert layers.result.deferred.directories == []
    assert not os.path.lexists(root / "x")


# ---------------------------------------------------------------- several of one name


def test_last_one_wins(layers: Layers) -> None:
    tar = Tar().file("f", b"first", mode=0o600, uid=1).file("f", b"last").symlink("s", "a").symlink("s", "b")
    root = layers.unpack(tar)
    assert (root / "f").read_bytes() == b"last"
    assert (root / "f").stat().st_uid == 0
    assert os.readlink(root / "s") == "b"
    assert len(layers.result.warnings) == 2


def test_directory_twice_keeps_its_children(layers: Layers) -> None:
    root = layers.unpack(Tar().directory("d", mode=0o700, uid=5).file("d/f").directory("d", mode=0o750))
    assert os.listdir(root / "d") == ["f"]
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750
    assert (root / "d").stat().st_uid == 0


def test_file_replaces_directory_and_back(layers: Layers) -> None:
    tar = Tar().directory("d").directory("d/sub").file("d/sub/f").file("d", b"file")
    root = layers.unpack(tar)
    assert (root / "d").read_bytes() == b"file"
    root = layers.unpack(tar.directory("d").file("d/new"))
    assert os.listdir(root / "d") == ["new"]


def test_directory_replaces_symlink(layers: Layers) -> None:
    root = layers.unpack(Tar().directory("real").symlink("lib", "real").directory("lib").file("lib/f"))
    assert not (root / "lib").is_symlink()
    assert os.listdir(root / "lib") == ["f"]
    assert os.listdir(root / "real") == []


def test_replaced_file_keeps_its_other_name(layers: Layers) -> None:
    root = layers.unpack(Tar().file("a", b"old").hardlink("b", "a").file("a", b"new"))
    assert (root / "a").read_bytes() == b"new"
    assert (root / "b").read_bytes() == b"old"


# ---------------------------------------------------------------- hardlinks


def test_forward_hardlinks(layers: Layers) -> None:
    tar = Tar().hardlink("a", "b").hardlink("b", "c").file("c", b"x").hardlink("self", "self").file("self", b"y")
    root = layers.unpack(tar)
    assert (root / "a").samefile(root / "c")
    assert (root / "b").samefile(root / "c")
    assert (root / "self").read_bytes() == b"y"
    assert not layers.result.deferred


def test_hardlink_to_itself(layers: Layers) -> None:
    root = layers.unpack(Tar().file("f", b"x").hardlink("f", "./f"))
    assert (root / "f").read_bytes() == b"x"


def test_hardlink_to_symlink(layers: Layers) -> None:
    root = layers.unpack(Tar().symlink("s", "/etc/passwd").hardlink("h", "s"))
    assert os.readlink(root / "h") == "/etc/passwd"


def test_hardlink_through_symlink(layers: Layers) -> None:
    tar = (
        Tar()
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/x", b"x")
        .symlink("lib", "usr/lib")
        .hardlink("y", "lib/x")
    )
    root = layers.unpack(tar)
    assert (root / "y").samefile(root / "usr/lib/x")


def test_hardlink_to_directory(layers: Layers) -> None:
    with pytest.raises(LayerError, match="directory"):
        layers.unpack(Tar().directory("d").hardlink("h", "d"))


def test_hardlink_in_place_of_a_directory(layers: Layers) -> None:
    root = layers.unpack(Tar().directory("x").file("x/y").directory("b").file("b/f", b"1").hardlink("x", "b/f"))
    assert (root / "x").samefile(root / "b/f")
    layers.unpack(Tar().directory("a").file("a/f").hardlink("a", "a/f"))
    assert layers.result.deferred.hardlinks == [(b"a", b"a/f")]


def test_hardlink_to_lower_file_is_deferred(layers: Layers) -> None:
    layers.unpack(Tar().directory("d").hardlink("d/h", "usr/bin/perl"))
    assert layers.result.deferred.hardlinks == [(b"d/h", b"usr/bin/perl")]


def test_hardlink_to_whiteout_makes_no_whiteout(layers: Layers) -> None:
    root = layers.unpack(Tar().file(".wh.f").hardlink("h", "f"))
    assert not os.path.lexists(root / "h")
    assert layers.result.deferred.hardlinks == [(b"h", b"f")]


# ---------------------------------------------------------------- parents


def test_missing_parents_are_deferred(layers: Layers) -> None:
    root = layers.unpack(Tar().file("a/b/c/f").directory("a/b"))
    assert (root / "a/b/c/f").is_file()
    assert layers.result.deferred.directories == [b"a", b"a/b/c"]


def test_parents_that_come_later_are_not(layers: Layers) -> None:
    root = layers.unpack(Tar().file("a/f").directory("a", mode=0o700, uid=9))
    assert not layers.result.deferred
    assert ((root / "a").stat().st_uid, stat.S_IMODE((root / "a").stat().st_mode)) == (9, 0o700)
    assert (root / "a").stat().st_mtime_ns == MTIME_NS


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "./usr/../usr/lib", "../../usr/lib"])
def test_symlink_parent_in_the_layer(layers: Layers, target: str) -> None:
    tar = Tar().directory("usr").directory("usr/lib").symlink("lib", target).file("lib/f", b"x").file("lib/.wh.g")
    root = layers.unpack(tar)
    assert (root / "lib").is_symlink()
    assert (root / "usr/lib/f").read_bytes() == b"x"
    assert is_whiteout(root / "usr/lib/g")
    assert not layers.result.deferred


def test_dangling_symlink_parent_makes_its_target(layers: Layers) -> None:
    root = layers.unpack(Tar().symlink("lib", "usr/lib").file("lib/f", b"x"))
    assert (root / "usr/lib/f").read_bytes() == b"x"
    assert layers.result.deferred.directories == [b"usr", b"usr/lib"]


def test_many_directories_in_turn(layers: Layers) -> None:
    tar = Tar()
    for number in range(400):
        tar.directory(f"d{number}")
    for number in range(400):
        tar.file(f"d{number}/f").hardlink(f"d{399 - number}/h{number}", f"d{number}/f")
    root = layers.unpack(tar, max_entries=2000)
    assert all((root / f"d{399 - number}/h{number}").samefile(root / f"d{number}/f") for number in range(400))


def test_deep_tree_is_replaced(layers: Layers) -> None:
    path = "/".join("d" for _ in range(900))
    root = layers.unpack(Tar().file("x", pax={"path": f"{path}/f"}).file("d", b"flat"), max_entries=5000)
    assert (root / "d").read_bytes() == b"flat"


# ---------------------------------------------------------------- hostile


@pytest.mark.parametrize(
    "name", ["../canary/file", "d/../../canary/file", "..", "/../canary/file", "d/..", "../../../../../../etc/passwd"]
)
@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"5", b"6"])
def test_names_that_lead_upwards(layers: Layers, name: str, kind: bytes) -> None:
    with pytest.raises(LayerError, match=r"\.\."):
        layers.unpack(Tar().directory("d").add(name, kind, link=b"x"))


def test_hardlink_that_leads_upwards(layers: Layers) -> None:
    with pytest.raises(LayerError, match=r"\.\."):
        layers.unpack(Tar().hardlink("h", "../canary/file"))


def test_hardlink_to_absolute_path_stays_inside(layers: Layers) -> None:
    layers.unpack(Tar().hardlink("h", str(layers.canary / "file")))
    assert layers.result.deferred.hardlinks


@pytest.mark.parametrize(
    "spelling", ["{canary}", "../canary", "../../../../../../../..{canary}", "/proc/self/root{canary}"]
)
def test_symlinks_to_the_outside_lead_nowhere(layers: Layers, spelling: str) -> None:
    target = spelling.format(canary=layers.canary)
    tar = Tar().symlink("out", target).file("out/file", b"overwritten").file("out/.wh.file2").directory("out/made")
    tar.hardlink("stolen", "out/file")
    root = layers.unpack(tar)
    assert (root / "stolen").read_bytes() == b"overwritten"


def test_file_is_not_written_through_a_symlink(layers: Layers) -> None:
    root = layers.unpack(Tar().symlink("f", str(layers.canary / "file")).file("f", b"overwritten", mode=0o777, uid=5))
    assert not (root / "f").is_symlink()
    assert (layers.canary / "file").stat().st_uid == 0


def test_attributes_do_not_follow_symlinks(layers: Layers) -> None:
    pax = {"SCHILY.xattr.user.evil": "1"}
    layers.unpack(Tar().symlink("d", str(layers.canary), uid=9, mode=0o4777, mtime=1, pax=pax))
    assert layers.canary.stat().st_uid == 0
    assert os.listxattr(layers.canary) == []


def test_directory_swapped_for_symlink(layers: Layers) -> None:
    tar = Tar().directory("d").file("d/a").symlink("d", str(layers.canary)).file("d/file", b"overwritten")
    layers.unpack(tar)


def test_symlink_loops(layers: Layers) -> None:
    with pytest.raises(LayerError, match="symlinks"):
        layers.unpack(Tar().symlink("a", "b").symlink("b", "a").file("a/f"))
    with pytest.raises(LayerError):
        layers.unpack(Tar().symlink("a", "a/a/a/a/a/a/a/a").file("a/f"))
    layers.unpack(Tar().symlink("a", "b").symlink("b", "a").hardlink("h", "a/f"))
    assert layers.result.deferred.hardlinks


@pytest.mark.parametrize("owner", [{"uid": -5}, {"uid": 2**32 - 1}, {"gid": 2**32}, {"gid": 2**60}])
def test_owners_out_of_range(layers: Layers, owner: dict[str, int]) -> None:
    with pytest.raises(LayerError, match="out of range"):
        layers.unpack(Tar().file("f", **owner))


def test_long_and_deep_names(layers: Layers) -> None:
    longest = "/".join("n" * 200 for _ in range(MAX_PATH_BYTES // 201))
    layers.unpack(Tar().file("x", pax={"path": longest}))
    for name in (
        "n" * 256,
        "d/" * (MAX_PATH_BYTES // 2) + "long",
        "n/" * (MAX_DEPTH + 1) + "f",
    ):
        with pytest.raises(LayerError):
            layers.unpack(Tar().file("x", pax={"path": name}))
        with pytest.raises(LayerError):
            layers.unpack(Tar().directory("x", pax={"path": name}))


def test_depth_by_symlinks_is_limited(layers: Layers) -> None:
    tar = Tar().directory("d")
    for level in range(6):
        target = "/".join([f"s{level - 1}" if level else "d", *["e"] * 180])
        tar.symlink(f"s{level}", "", pax={"linkpath": target})
        tar.file("x", pax={"path": f"s{level}/f"})
    with pytest.raises(LayerError):
        layers.unpack(tar)


def test_nul_in_names(layers: Layers) -> None:
    with pytest.raises(LayerError, match="NUL"):
        layers.unpack(Tar().file("x", pax={"path": "a\0b"}))
    with pytest.raises(LayerError, match="NUL"):
        layers.unpack(Tar().symlink("s", "x", pax={"linkpath": "a\0b"}))


def test_odd_targets(layers: Layers) -> None:
    for target in ("", "t" * 5000):
        with pytest.raises(LayerError):
            layers.unpack(Tar().symlink("s", "x" if target else "", pax={"linkpath": target} if target else None))
    with pytest.raises(LayerError):
        layers.unpack(Tar().hardlink("h", ""))


def test_entries_are_limited(layers: Layers) -> None:
    with pytest.raises(LayerError, match="entries"):
        layers.unpack(Tar().file("a").file("b").file("c"), max_entries=2)
    with pytest.raises(LayerError, match="entries"):
        layers.unpack(Tar().directory("a").directory("a").directory("a"), max_entries=2)


def test_implied_directories_are_limited(layers: Layers) -> None:
    with pytest.raises(LayerError, match="directories"):
        layers.unpack(Tar().file("x", pax={"path": "d/" * 900 + "f"}), max_entries=100)


@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"6"])
@pytest.mark.parametrize("name", ["./", "/", "."])
def test_root_is_a_directory(layers: Layers, kind: bytes, name: str) -> None:
    with pytest.raises(LayerError, match="root"):
        layers.unpack(Tar().add(name, kind, link=b"x"))


def test_file_as_parent(layers: Layers) -> None:
    root = layers.unpack(Tar().file("f", b"x").file("f/g", b"y"))
    assert (root / "f/g").read_bytes() == b"y"
    assert layers.result.warnings


def test_truncated_in_a_file(layers: Layers) -> None:
    with pytest.raises(LayerError, match="ends in a file"):
        layers.unpack(Tar().raw(header(b"f", size=5000) + b"x" * 4000))


def test_same_result_whatever_the_chunks(layers: Layers) -> None:
    tar = Tar().directory("d", uid=3).file("d/.wh.x").file("e/f", b"z" * 9000).hardlink("d/h", "e/f").directory("d/o")
    tar.file("d/o/.wh..wh..opq").symlink("l", "d").file("l/through", mode=0o4711)
    results = [tree(layers.unpack(tar, chunk=chunk)) for chunk in (17, 512, 4096, 1 << 20)]
    assert all(result == results[0] for result in results)
