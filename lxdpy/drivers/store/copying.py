"""Copies of upper directories, made by coreutils' cp: it knows the rare kinds of files, and needs no interpreter."""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from lxdpy.errors import NoSpaceError, WorkerError

_NO_SPACE = (b"No space left on device", b"Disk quota exceeded")
_SAID_BYTES = 64 << 10


async def copy_directory(source: Path, target: Path) -> None:
    """See `Store.copy_directory`."""
    try:
        process = await asyncio.create_subprocess_exec(
            # It ends with the daemon, whose next start removes what there is by then.
            *("setpriv", "--pdeathsig", "KILL"),
            # Hard links, times, owners, modes, xattrs; devices and whiteouts as such; holes stay holes.
            *("cp", "--archive", "--reflink=auto", "--no-target-directory", "--", str(source), str(target)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except OSError as exc:
        raise WorkerError(f"Cannot run cp: {exc.strerror}") from exc
    try:
        said = await _complaints(process)
        code = await process.wait()
    except BaseException:
        # Nothing writes to the target any more when this returns.
        process.kill()
        await process.wait()
        raise
    if code != 0:
        kind = NoSpaceError if any(text in said for text in _NO_SPACE) else WorkerError
        first = said.partition(b"\n")[0].decode(errors="replace").removeprefix("cp: ")
        raise kind(f"Cannot copy {source}: {first or f'cp ended with {code}'}")


async def _complaints(process: Process) -> bytes:
    """The beginning of what cp says on stderr: there may be a line for each file."""
    assert process.stderr is not None
    said = b""
    while data := await process.stderr.read(_SAID_BYTES):
        said += data[: max(0, _SAID_BYTES - len(said))]
    return said
