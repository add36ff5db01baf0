"""Trees of files to push and pull: made by chance, and compared."""

import os
import random
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """What one file, directory or link is."""

    kind: str
    content: bytes
    """A link's target, for a link."""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified_ns: int = 0


def build(root: Path, count: int, *, seed: int = 1) -> None:
    """Make about `count` entries: contents, modes, owners, times and links of all sorts."""
    chance = random.Random(seed)
    root.mkdir()
    directories = [root]
    for number in range(count):
        parent = chance.choice(directories)
        match chance.randrange(10):
            case 0:
                path = parent / f"directory {number}"
                path.mkdir()
                directories.append(path)
            case 1:
                path = parent / f"link{number}"
                targets = (f"link{number - 1}", "../..", "/etc/passwd", "nowhere", f"föö {number}", "./a/../b")
                path.symlink_to(chance.choice(targets))
            case _:
                path = parent / f"file{number}ä"
                path.write_bytes(chance.randbytes(chance.choice((0, 1, 100, 5000))))
        os.chown(path, chance.choice((0, 1, 1000, 65535)), chance.choice((0, 5, 100)), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(chance.choice((0o644, 0o600, 0o755, 0o444, 0o777, 0o700)))
    # Last, and bottom-up: what is made in a directory changes its time.
    for path in sorted(root.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        moment = chance.randrange(10**9, 17 * 10**8) * 10**9 + chance.randrange(10**9)
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def look(root: Path) -> dict[str, Entry]:
    """Every entry below `root` by its path from there."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}[stat.S_IFMT(status.st_mode)]
        content = b""
        if kind == "file":
            content = path.read_bytes()
        elif kind == "symlink":
            content = os.fsencode(os.readlink(path))
        found[str(path.relative_to(root))] = Entry(
            kind, content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns
        )
    return found
