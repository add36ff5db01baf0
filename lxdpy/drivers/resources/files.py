"""Small files of the kernel, which may be missing, empty or refuse to be read on one host or the other."""

from pathlib import Path


def text(path: Path) -> str:
    """The text without the white space around it; "" when there is none to be had."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def number(path: Path, default: int = 0) -> int:
    """A decimal or 0x number; `default` when there is none."""
    try:
        return int(text(path), 0)
    except ValueError:
        return default


def entries(directory: Path) -> list[Path]:
    """What is in a directory, by name; nothing when there is no such directory."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def link_name(path: Path) -> str:
    """The last part of what a link points to; "" when there is no link."""
    return path.resolve().name if path.is_symlink() else ""
