"""What a layer worker can still do after `confine`: in a process of its own, that there is no way back from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lxdpy.linux import landlock

pytestmark = pytest.mark.root

# Each attempt is reported as the name of the exception it ended with, or "" for success.
SCRIPT = """
import ctypes, json, os, signal, sys
from lxdpy.linux.mount import CLONE_NEWNS, mount, unshare
from lxdpy.workers.layers.confine import confine

inside, outside = sys.argv[1:]
fd = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
kept = os.open(outside + "/open", os.O_RDWR | os.O_CREAT)
os.mkdir(inside + "/d")
confine(fd, 1 << 20)

def both_capability():
    os.setxattr(inside + "/f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))

attempts = {
    "make": lambda: os.close(os.open(inside + "/f", os.O_WRONLY | os.O_CREAT)),
    "link": lambda: os.link(inside + "/f", inside + "/d/g"),
    "rename": lambda: os.rename(inside + "/d/g", inside + "/h"),
    "whiteout": lambda: os.mknod(inside + "/w", 0o020000, 0),
    "owner": lambda: os.chown(inside + "/f", 7, 7),
    "opaque": lambda: os.setxattr(inside + "/d", "trusted.overlay.opaque", b"y"),
    "capability": both_capability,
    "read outside": lambda: open(outside + "/file").read(),
    "open descriptor": lambda: os.ftruncate(kept, 0) or os.write(kept, b"x"),
    "make outside": lambda: os.close(os.open(outside + "/f", os.O_WRONLY | os.O_CREAT)),
    "write outside": lambda: os.open(outside + "/file", os.O_WRONLY),
    "truncate outside": lambda: os.truncate(outside + "/file", 0),
    "remove outside": lambda: os.unlink(outside + "/file"),
    "link outside": lambda: os.link(inside + "/f", outside + "/g"),
    "symlink outside": lambda: os.symlink("x", outside + "/s"),
    "block device": lambda: os.mknod(inside + "/b", 0o060600, os.makedev(8, 0)),
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "mount": lambda: (unshare(CLONE_NEWNS), mount("x", inside + "/d", "tmpfs", 0)),
    "kill": lambda: os.kill(os.getppid(), 0),
    "become somebody": lambda: os.setuid(5),
    "large file": lambda: os.posix_fallocate(os.open(inside + "/f", os.O_WRONLY), 0, 2 << 20),
}
results = {}
for name, attempt in attempts.items():
    try:
        attempt()
        results[name] = ""
    except OSError as exc:
        results[name] = type(exc).__name__
print(json.dumps(results))
"""


def test_confinement(tmp_path: Path) -> None:
    if landlock.abi_version() < 3:
        pytest.skip("this kernel's landlock is too old to tell")
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_text("untouched")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, inside, outside], capture_output=True, text=True, timeout=30, check=True
    )
    results = json.loads(done.stdout)
    allowed = {name for name, error in results.items() if not error}
    expected = {
        "make",
        "link",
        "rename",
        "whiteout",
        "owner",
        "opaque",
        "capability",
        "read outside",
        "open descriptor",
    }
    if landlock.abi_version() < 6:
        results.pop("kill")
        allowed.discard("kill")
    assert allowed == expected
    assert {error for name, error in results.items() if name not in expected} <= {"PermissionError", "OSError"}
    assert (outside / "file").read_text() == "untouched"
    assert sorted(path.name for path in outside.iterdir()) == ["file", "open"]
