"""Unpack layers in this process, and look at what became of them."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from lxdpy.workers.layers.fit import Fit, open_layers
from lxdpy.workers.layers.lowers import Lowers
from lxdpy.workers.layers.tar import TarReader
from lxdpy.workers.layers.tree import OPAQUE, Tree, Unpacked
from tests.fakes.tars import Tar


class Layers:
    """Unpacks into numbered directories, with a canary beside them."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._count = 0
        self.canary = base / "canary"
        self.canary.mkdir()
        (self.canary / "file").write_text("untouched")
        self.last: Unpacked | None = None

    def unpack(self, tar: Tar, *, max_entries: int = 1000, chunk: int = 1000) -> Path:
        self._count += 1
        root = self._base / str(self._count)
        root.mkdir()
        data = tar.bytes()
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            reader = TarReader(data[start : start + chunk] for start in range(0, len(data), chunk))
            self.last = Tree(fd, max_entries).unpack(reader)
        finally:
            os.close(fd)
        return root

    def stack(self, *tars: Tar, max_bytes: int = 1 << 30) -> list[Path]:
        """Unpack layers, base first, and fit each onto those below."""
        roots: list[Path] = []
        for tar in tars:
            root = self.unpack(tar)
            self.fit(root, roots[::-1], max_bytes=max_bytes)
            roots.append(root)
        return roots

    def fit(self, root: Path, lowers: Sequence[Path], *, max_bytes: int = 1 << 30) -> Fit:
        """Fit the layer that was unpacked last onto `lowers`, topmost first."""
        spare = self._base / "spare"
        spare.mkdir(exist_ok=True)
        fds = [*open_layers([str(root), str(spare)]), *open_layers([str(path) for path in lowers])]
        try:
            fit = Fit(fds[0], fds[1], Lowers(fds[2:]), max_bytes)
            fit.run(self.result.deferred)
        finally:
            for fd in fds:
                os.close(fd)
        assert list(spare.iterdir()) == []
        return fit

    @property
    def result(self) -> Unpacked:
        assert self.last is not None
        return self.last


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, OPAQUE) == b"y"
    except OSError:
        return False


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """All there is to know of every file."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [".", *names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            what = (status.st_mode, status.st_rdev, status.st_nlink, content, tuple(sorted(xattrs.items())))
            owner = (status.st_uid, status.st_gid, status.st_mtime_ns)
            found[str(path.relative_to(root))] = (*owner, *what)
    return found
