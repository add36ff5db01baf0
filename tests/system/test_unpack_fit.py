"""Layers that need those below: attributes of parents, symlinks as parents, hardlinks downwards, opaque roots."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdpy.errors import LayerError
from lxdpy.linux.remove import remove
from tests.fakes.tars import MTIME, Tar
from tests.system.unpacking import Layers, is_opaque, is_whiteout, tree

pytestmark = pytest.mark.root

MTIME_NS = MTIME * 10**9


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    umask = os.umask(0)
    before = len(os.listdir("/proc/self/fd"))
    layers = Layers(tmp_path)
    yield layers
    os.umask(umask)
    assert len(os.listdir("/proc/self/fd")) == before
    assert (layers.canary / "file").read_text() == "untouched"
    for path in tmp_path.iterdir():
        remove(path)


def facts(path: Path) -> tuple[int, int, int, int]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns


# ---------------------------------------------------------------- parents without entries


def test_parents_take_attributes_from_below(layers: Layers) -> None:
    base = Tar().directory("home", mode=0o711).directory("home/me", mode=0o700, uid=1000, gid=1000, mtime=MTIME - 5)
    base.directory("srv", mode=0o2775, gid=50, pax={"SCHILY.xattr.user.note": "n"})
    _, top = layers.stack(base, Tar().file("home/me/f", uid=1000).file("srv/.wh.old"))
    assert facts(top / "home") == (0o711, 0, 0, MTIME_NS)
    assert facts(top / "home/me") == (0o700, 1000, 1000, MTIME_NS - 5 * 10**9)
    assert facts(top / "srv") == (0o2775, 0, 50, MTIME_NS)
    assert os.getxattr(top / "srv", "user.note") == b"n"
    assert facts(top / "home/me/f")[1] == 1000


def test_topmost_layer_that_has_the_parent_counts(layers: Layers) -> None:
    first, second = Tar().directory("d", mode=0o700), Tar().directory("d", mode=0o750, uid=3)
    *_, top = layers.stack(first, second, Tar().file("other"), Tar().file("d/f"))
    assert facts(top / "d")[:2] == (0o750, 3)


def test_parent_that_nobody_has(layers: Layers) -> None:
    *_, top = layers.stack(Tar().file("x"), Tar().file("a/b/f"))
    assert facts(top / "a") == (0o755, 0, 0, 0)
    (alone,) = layers.stack(Tar().file("a/b/f"))
    assert tree(alone) == tree(top)


@pytest.mark.parametrize("hide", ["d/.wh.sub", "d/.wh..wh..opq", ".wh.d"])
def test_parents_that_are_deleted_below_are_new(layers: Layers, hide: str) -> None:
    base = Tar().directory("d", mode=0o700).directory("d/sub", mode=0o700)
    middle = Tar().file(hide) if hide == ".wh.d" else Tar().directory("d", mode=0o711).file(hide)
    *_, top = layers.stack(base, middle, Tar().file("d/sub/f"))
    assert facts(top / "d/sub")[0] == 0o755
    assert facts(top / "d")[0] == (0o755 if hide == ".wh.d" else 0o711)


def test_parent_below_is_hidden_by_this_layer(layers: Layers) -> None:
    base = Tar().directory("d", mode=0o700).directory("d/sub", mode=0o700)
    *_, top = layers.stack(base, Tar().directory("d").file("d/.wh..wh..opq").file("d/sub/f"))
    assert facts(top / "d/sub")[0] == 0o755


def test_parent_is_a_file_below(layers: Layers) -> None:
    *_, top = layers.stack(Tar().file("d", mode=0o600), Tar().file("d/f"))
    assert facts(top / "d")[0] == 0o755


# ---------------------------------------------------------------- parents that are symlinks below


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../usr/./lib"])
def test_content_moves_to_where_the_symlink_leads(layers: Layers, target: str) -> None:
    base = Tar().directory("usr", mode=0o711).directory("usr/lib", mode=0o750, gid=7).symlink("lib", target)
    upper = Tar().file("lib/foo", b"x").file("lib/.wh.gone").directory("lib/sub", mode=0o700).file("lib/sub/f")
    *_, top = layers.stack(base, upper)
    assert not os.path.lexists(top / "lib")
    assert (top / "usr/lib/foo").read_bytes() == b"x"
    assert is_whiteout(top / "usr/lib/gone")
    assert facts(top / "usr/lib/sub")[0] == 0o700
    assert facts(top / "usr") == (0o711, 0, 0, MTIME_NS)
    assert facts(top / "usr/lib") == (0o750, 0, 7, MTIME_NS)


def test_moved_content_joins_what_the_layer_has_there(layers: Layers) -> None:
    base = Tar().directory("usr").directory("usr/lib", mode=0o711).symlink("lib", "usr/lib")
    upper = Tar().directory("usr").directory("usr/lib", mode=0o701).file("usr/lib/a", b"a").file("usr/lib/both", b"old")
    upper.directory("usr/lib/d", mode=0o700).file("usr/lib/e/1").file("usr/lib/kept", b"kept")
    upper.file("lib/b", b"b").file("lib/both", b"new").file("lib/d/f").directory("lib/e", mode=0o705).file(
        "lib/.wh.kept"
    )
    *_, top = layers.stack(base, upper)
    assert sorted(os.listdir(top / "usr/lib")) == ["a", "b", "both", "d", "e", "kept"]
    assert (top / "usr/lib/both").read_bytes() == b"new"
    assert (top / "usr/lib/kept").read_bytes() == b"kept"
    assert facts(top / "usr/lib") == (0o701, 0, 0, MTIME_NS)
    assert facts(top / "usr/lib/d") == (0o700, 0, 0, MTIME_NS)
    assert facts(top / "usr/lib/e") == (0o705, 0, 0, MTIME_NS)
    assert os.listdir(top / "usr/lib/e") == ["1"]
    assert os.listdir(top / "usr/lib/d") == ["f"]


def test_nested_parents_that_move(layers: Layers) -> None:
    base = Tar().directory("real").directory("real/deep", mode=0o710).directory("real/deep/er", mode=0o701)
    base.symlink("a", "real").symlink("real/b", "deep")
    *_, top = layers.stack(base, Tar().file("a/b/er/f", b"x").file("a/b/g"))
    assert (top / "real/deep/er/f").read_bytes() == b"x"
    assert facts(top / "real/deep")[0] == 0o710
    assert facts(top / "real/deep/er")[0] == 0o701
    assert os.listdir(top) == ["real"]


def test_symlink_that_leads_through_another(layers: Layers) -> None:
    base = Tar().directory("real").symlink("one", "real").symlink("two", "one/sub").directory("real/sub", mode=0o700)
    *_, top = layers.stack(base, Tar().file("two/f").file("one/g"))
    assert sorted(os.listdir(top)) == ["real"]
    assert sorted(os.listdir(top / "real")) == ["g", "sub"]
    assert facts(top / "real/sub")[0] == 0o700


def test_symlink_that_leads_nowhere(layers: Layers) -> None:
    *_, top = layers.stack(Tar().symlink("lib", "not/there"), Tar().file("lib/f", b"x"))
    assert (top / "not/there/f").read_bytes() == b"x"


def test_symlink_that_leads_outside_stays_inside(layers: Layers) -> None:
    target = f"../../../../../../../..{layers.canary}"
    *_, top = layers.stack(Tar().symlink("lib", target), Tar().file("lib/file", b"overwritten"))
    assert (top / str(layers.canary).lstrip("/") / "file").read_bytes() == b"overwritten"


def test_symlink_loops_below(layers: Layers) -> None:
    with pytest.raises(LayerError, match="symlinks"):
        layers.stack(Tar().symlink("a", "b").symlink("b", "a"), Tar().file("a/f"))
    for path in (layers.canary.parent / "spare").iterdir():
        remove(path)
    with pytest.raises(LayerError):
        layers.stack(Tar().symlink("a", "a/x"), Tar().file("a/f"))
    for path in (layers.canary.parent / "spare").iterdir():
        remove(path)


def test_symlink_onto_a_file(layers: Layers) -> None:
    with pytest.raises(LayerError, match="no directory"):
        layers.stack(Tar().symlink("a", "f"), Tar().file("f").file("a/x"))
    for path in (layers.canary.parent / "spare").iterdir():
        remove(path)


def test_directory_entry_replaces_symlink(layers: Layers) -> None:
    *_, top = layers.stack(Tar().directory("usr").symlink("lib", "usr"), Tar().directory("lib").file("lib/f"))
    assert os.listdir(top / "lib") == ["f"]
    assert not os.path.lexists(top / "usr")


# ---------------------------------------------------------------- hardlinks


def test_hardlink_copies_the_file_up(layers: Layers) -> None:
    base = Tar().directory("bin", mode=0o711).file("bin/a", b"abc" * 1000, mode=0o4755, uid=5, mtime=MTIME - 9,
        pax={"SCHILY.xattr.user.x": "y"})  # fmt: skip
    *_, top = layers.stack(base, Tar().directory("d").hardlink("d/b", "bin/a").hardlink("c", "./bin/a"))
    assert (top / "d/b").samefile(top / "bin/a")
    assert (top / "c").samefile(top / "bin/a")
    assert (top / "c").read_bytes() == b"abc" * 1000
    assert facts(top / "c") == (0o4755, 5, 0, MTIME_NS - 9 * 10**9)
    assert os.getxattr(top / "c", "user.x") == b"y"
    assert facts(top / "bin") == (0o711, 0, 0, MTIME_NS)
    assert facts(top / "d") == (0o755, 0, 0, MTIME_NS)


def test_hardlink_to_a_symlink_below(layers: Layers) -> None:
    *_, top = layers.stack(Tar().symlink("s", "/etc/passwd", uid=3), Tar().hardlink("h", "s"))
    assert os.readlink(top / "h") == "/etc/passwd"
    assert (top / "h").lstat().st_uid == 3


def test_hardlink_through_a_symlink_below(layers: Layers) -> None:
    base = Tar().directory("usr").file("usr/x", b"x").symlink("lib", "usr")
    *_, top = layers.stack(base, Tar().hardlink("h", "lib/x"))
    assert (top / "h").samefile(top / "usr/x")
    assert not os.path.lexists(top / "lib")


def test_hardlink_to_a_deleted_file_keeps_only_the_new_name(layers: Layers) -> None:
    *_, top = layers.stack(Tar().file("old", b"x"), Tar().file(".wh.old").hardlink("new", "old"))
    assert is_whiteout(top / "old")
    assert (top / "new").read_bytes() == b"x"


def test_hardlink_to_nothing(layers: Layers) -> None:
    for base in (Tar(), Tar().directory("f"), Tar().file("gone")):
        with pytest.raises(LayerError, match="no layer has"):
            layers.stack(base, Tar().file(".wh.gone"), Tar().hardlink("h", "f").hardlink("i", "gone"))


def test_hardlinks_can_not_exceed_the_limit(layers: Layers) -> None:
    with pytest.raises(LayerError, match="limit"):
        layers.stack(Tar().file("large", b"x" * 5000), Tar().hardlink("h", "large"), max_bytes=4000)


# ---------------------------------------------------------------- opaque root


def test_opaque_root_hides_everything(layers: Layers) -> None:
    base = Tar().file("f").directory("d").file("d/old").directory("kept").symlink("s", "f")
    middle = Tar().file(".wh.f").file("g")
    upper = Tar().file(".wh..wh..opq").directory("kept").file("kept/new").file("s", b"file").file("p/q/r")
    *_, top = layers.stack(base, middle, upper)
    assert sorted(os.listdir(top)) == ["d", "g", "kept", "p", "s"]
    assert is_whiteout(top / "d")
    assert is_whiteout(top / "g")
    assert is_opaque(top / "kept")
    assert (top / "s").read_bytes() == b"file"


def test_opaque_root_of_the_base(layers: Layers) -> None:
    (top,) = layers.stack(Tar().file(".wh..wh..opq").file("f"))
    assert os.listdir(top) == ["f"]


def test_same_result_twice(layers: Layers) -> None:
    base = Tar().directory("usr").directory("usr/lib", mode=0o711).symlink("lib", "usr/lib").file("usr/x", b"x")
    upper = Tar().file("lib/a/b").hardlink("usr/lib/h", "usr/x").file("lib/.wh.c").file("var/log/f")
    first, second = layers.stack(base, upper), layers.stack(base, upper)
    assert tree(first[1]) == tree(second[1])
