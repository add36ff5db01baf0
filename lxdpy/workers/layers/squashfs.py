"""Squashfs files as tar streams and back, by squashfs-tools-ng: `sqfs2tar` reads what anybody may have made.

They run without capabilities and network, and may write to nothing but their pipe, or the one file that they make; they
die with the process that waits for them. Start them before that process is confined itself: confined, it may execute
nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator

from lxdpy.errors import LayerError, UnsupportedError, WorkerError
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
                preexec_fn=lambda: _confine(_COMPLAINTS_BYTES, None),
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


class SquashfsWriter:
    """Makes the squashfs file `path`, which is empty and open as `fd`, of a tar stream. Raises UnsupportedError without
    tar2sqfs."""

    def __init__(self, path: str, fd: int) -> None:
        self._fd = fd
        self._complaints = os.memfd_create("tar2sqfs", os.MFD_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                ("tar2sqfs", "--quiet", "--no-skip", "--force", "--compressor", "xz", path),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                preexec_fn=lambda: _confine(None, fd),
            )
        except FileNotFoundError as exc:
            raise UnsupportedError(
                "Cannot make a squashfs image: tar2sqfs (package squashfs-tools-ng) is not installed"
            ) from exc

    def write(self, data: bytes) -> None:
        """Add to the stream. Raises WorkerError when tar2sqfs has failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            raise self._failure() from None

    def finish(self) -> tuple[str, int]:
        """End the stream, and have the file on disk: hex of its SHA-256, and its size. Raises WorkerError, OSError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            raise self._failure() from None
        if self._process.wait() != 0:
            raise self._failure()
        digest = hashlib.sha256()
        size = 0
        while chunk := os.pread(self._fd, _PIECE_BYTES, size):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(self._fd)
        return digest.hexdigest(), size

    def _failure(self) -> WorkerError:
        self._process.wait()
        text = os.pread(self._complaints, 500, 0).decode(errors="replace").strip()
        return WorkerError(f"Cannot make a squashfs image: {text or 'tar2sqfs has died'}")


def _confine(max_file_bytes: int | None, writable_fd: int | None) -> None:
    """Runs in the child, ahead of execve."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    unshare(_CLONE_NEWNET)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    capabilities.set_no_new_privs()
    if landlock.abi_version():
        rules = landlock.create_ruleset(_WRITING)
        if writable_fd is not None:
            landlock.add_path_rule(rules, writable_fd, landlock.ACCESS_FS_WRITE_FILE)
        landlock.restrict_self(rules)
        os.close(rules)
    capabilities.keep_only(())
