"""Where the cgroup hierarchies are mounted: v2 alone, v1, or both at once (hybrid)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Options of a v1 mount that are no controllers.
_MOUNT_OPTIONS = frozenset({"rw", "ro", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "favordynmods"})


@dataclass(frozen=True, slots=True)
class CgroupMounts:
    """Mount points by v1 controller, and that of v2, where present."""

    v1: Mapping[str, str]
    v2: str | None
    roots: tuple[str, ...] = field(default=(), compare=False)
    """The mount points of all hierarchies, those without a controller (name=systemd) too."""


def cgroup_mounts(mountinfo: Path = Path("/proc/self/mountinfo")) -> CgroupMounts:
    """Read the mount table (proc_pid_mountinfo(5)). Raises OSError."""
    v1: dict[str, str] = {}
    v2: str | None = None
    roots: list[str] = []
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, source = before.split(" "), after.split(" ")
        point, kind = _unescape(fields[4]), source[0]
        if kind in ("cgroup", "cgroup2") and fields[3] == "/":
            roots.append(point)
        if kind == "cgroup2" and v2 is None:
            v2 = point
        elif kind == "cgroup":
            for option in source[2].split(","):
                if option not in _MOUNT_OPTIONS and "=" not in option:
                    v1.setdefault(option, point)
    return CgroupMounts(v1, v2, tuple(roots))


def _unescape(path: str) -> str:
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(octal, character)
    return path
