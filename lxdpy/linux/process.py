"""What /proc says of a process: who its parent is, when it started (pid and start time name it for good), and which
signals it heeds."""

from __future__ import annotations

_PARENT = 1
_START_TIME = 19


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the process's start; None when there is no such process, or only its corpse."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_START_TIME])


def parent(pid: int) -> int | None:
    """The parent's pid; None when there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_PARENT])


def heeded_signals(pid: int) -> set[int]:
    """The signals that a process catches, or blocks to wait for them; none when there is no such process."""
    heeded = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name in (b"SigBlk", b"SigCgt"):
                    heeded |= int(value, 16)
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {bit + 1 for bit in range(heeded.bit_length()) if heeded >> bit & 1}


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat after the command's name: state first."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else fields
