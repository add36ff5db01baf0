"""Layers that try to reach the host through what fitting them moves about: links that take the place of directories."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdpy.errors import LayerError
from lxdpy.linux.remove import remove
from tests.fakes.tars import Tar
from tests.system.unpacking import Layers

pytestmark = pytest.mark.root

BASE = Tar().directory("p").directory("p/x").file("p/x/lower", b"from below").symlink("d", "/")


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    umask = os.umask(0)
    before = len(os.listdir("/proc/self/fd"))
    layers = Layers(tmp_path)
    (layers.canary / "x").mkdir()
    os.utime(layers.canary / "x", ns=(1, 1))
    yield layers
    os.umask(umask)
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(layers.canary)) == ["file", "x"]
    assert os.listdir(layers.canary / "x") == []
    assert (layers.canary / "x").stat().st_mtime_ns == 1
    for path in tmp_path.iterdir():
        remove(path)


def hostile(layers: Layers) -> Tar:
    """What is in d moves to /: there its link p takes the place of directory p, which has been settled by then."""
    return Tar().file("p/x/f").symlink("d/p", str(layers.canary))


def test_times_of_a_directory_that_became_a_link(layers: Layers) -> None:
    _, top = layers.stack(BASE, hostile(layers))
    assert os.readlink(top / "p") == str(layers.canary)


@pytest.mark.parametrize("white_out", [True, False])
def test_hardlink_in_a_directory_that_became_a_link(layers: Layers, white_out: bool) -> None:
    base = Tar().directory("p").directory("p/x").symlink("d", "/").file("evil", b"* * * * * root id\n")
    top = hostile(layers).hardlink("p/x/cron", "evil")
    if white_out:
        top.file(".wh.evil")
    with pytest.raises(LayerError, match="p/x"):
        layers.stack(base, top)
