"""Squashfs files as tar streams, by squashfs-tools-ng: `sqfs2tar` reads what anybody may have made.

It runs without capabilities and network, and may write to nothing but its pipe; it dies with the process that waits for
it. Start it before that process is confined itself: confined, it may execute nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Iterator

from lxdpy.errors import LayerError, UnsupportedError
from lxdpy.linux import capabilities, landlock
from lxdpy.linux.mount import unshare

_PIECE_BYTES = 256 << 10
_ADDRESS_SPACE_BYTES = 4 << 30
_COMPLAINTS_BYTES = 1 << 20
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_WRITING = (
    landlock.ACCESS_FS_WRITE_FILE
    | landlock.ACCESS_FS_REMOVE_DIR
    | landlock.ACCESS_FS_REMOVE_FILE
    | landlock.ACCESS_FS_MAKE_CHAR
    | landlock.ACCESS_FS_MAKE_DIR
    | landlock.ACCESS_FS_MAKE_REG
    | landlock.ACCESS_FS_MAKE_SOCK
    | landlock.ACCESS_FS_MAKE_FIFO
    | landlock.ACCESS_FS_MAKE_BLOCK
    | landlock.ACCESS_FS_MAKE_SYM
)

_libc = ctypes.CDLL(None, use_errno=True)


class SquashfsReader:
    """The tar stream of the squashfs file that is open as `fd`. Raises UnsupportedError without sqfs2tar."""

    def __init__(self, fd: int) -> None:
        self._complaints = os.memfd_create("sqfs2tar", os.MFD_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                # The root directory has an entry only when it is asked for.
                ("sqfs2tar", "--root-becomes", ".", "/dev/stdin"),
                stdin=fd,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                preexec_fn=_confine,
            )
        except FileNotFoundError as exc:
            raise UnsupportedError(
                "Cannot read a squashfs image: sqfs2tar (package squashfs-tools-ng) is not installed"
            ) from exc

    def chunks(self) -> Iterator[bytes]:
        """The stream. Raises LayerError at its end when sqfs2tar has failed."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), _PIECE_BYTES):
                yield chunk
        if self._process.wait() != 0:
            text = os.pread(self._complaints, 500, 0).decode(errors="replace").strip()
            raise LayerError(f"Malformed squashfs image: {text or 'sqfs2tar has died'}")


def _confine() -> None:
    """Runs in the child, ahead of execve."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    unshare(_CLONE_NEWNET)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_COMPLAINTS_BYTES, _COMPLAINTS_BYTES))
    capabilities.set_no_new_privs()
    if landlock.abi_version():
        rules = landlock.create_ruleset(_WRITING)
        landlock.restrict_self(rules)
        os.close(rules)
    capabilities.keep_only(())
