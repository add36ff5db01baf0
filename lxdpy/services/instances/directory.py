"""An instance's directory.

instances/NAME/             0711, holds nothing secret by itself
    rw/upper rw/work        what the container wrote, with real (unshifted) ids
    rootfs                  where the start child mounts, in a mount namespace of its own
    network/                resolv.conf, hosts, hostname
    console.log lxc.log exit run.json
    logs/                   recorded output of exec
instances/.tmp-* .trash-*   being made, being deleted: swept when the daemon starts
"""

import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from lxdpy.errors import InvalidRequestError, NoSpaceError, NotFoundError, WorkerError

_OWN_LOGS = ("console.log", "lxc.log")


class InstanceDirectories:
    """The directories of every instance."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir / "instances"

    def path(self, name: str) -> Path:
        """Where the instance is."""
        return self.root / name

    def create(self, name: str) -> None:
        """Make the directory, whole or not at all. Raises NoSpaceError, WorkerError."""
        fresh = self.root / f".tmp-{uuid.uuid4().hex}"
        try:
            for part, mode in (("", 0o711), ("rw", 0o755), ("rw/upper", 0o755), ("rw/work", 0o755), ("rootfs", 0o755)):
                (fresh / part).mkdir()
                (fresh / part).chmod(mode)
            (fresh / "network").mkdir(mode=0o755)
            (fresh / "logs").mkdir(mode=0o700)
            fresh.rename(self.path(name))
        except OSError as exc:
            shutil.rmtree(fresh, ignore_errors=True)
            kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
            raise kind(f'Cannot create the directory of instance "{name}": {exc}') from exc

    def discard(self, name: str) -> Path | None:
        """Move the directory out of the way, at once; the caller removes what this returns with `remove`."""
        trash = self.root / f".trash-{uuid.uuid4().hex}"
        try:
            self.path(name).rename(trash)
        except FileNotFoundError:
            return None
        return trash

    @staticmethod
    def remove(trash: Path) -> None:
        """Delete a discarded directory."""
        shutil.rmtree(trash)

    def log_files(self, name: str) -> list[str]:
        """Names of its log files."""
        own = [file for file in _OWN_LOGS if (self.path(name) / file).exists()]
        return sorted(own + [path.name for path in (self.path(name) / "logs").iterdir()])

    def read_log(self, name: str, file: str) -> bytes:
        """One log file. Raises NotFoundError."""
        try:
            return self._log(name, file).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f'Log file "{file}" of instance "{name}" not found') from None

    def delete_log(self, name: str, file: str) -> None:
        """Delete recorded output. Raises NotFoundError, InvalidRequestError for the daemon's own logs."""
        if file in _OWN_LOGS:
            raise InvalidRequestError(f'Cannot delete log file "{file}": only recorded output can be deleted')
        try:
            self._log(name, file).unlink()
        except FileNotFoundError:
            raise NotFoundError(f'Log file "{file}" of instance "{name}" not found') from None

    def _log(self, name: str, file: str) -> Path:
        if not file or "/" in file or file.startswith("."):
            raise NotFoundError(f'Log file "{file}" of instance "{name}" not found')
        return self.path(name) / file if file in _OWN_LOGS else self.path(name) / "logs" / file

    def write_network_files(self, name: str, files: Mapping[str, str], owner: int) -> None:
        """Write `network/FILE`, owned by the container's root. Raises WorkerError."""
        directory = self.path(name) / "network"
        try:
            for file, text in files.items():
                path = directory / file
                if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
                    continue
                path.write_text(text, encoding="utf-8")
                os.chown(path, owner, owner)
                path.chmod(0o644)
        except OSError as exc:
            raise WorkerError(f'Cannot write the network files of instance "{name}": {exc}') from exc

    def sweep(self, known: set[str]) -> list[str]:
        """Remove what a dead daemon left half-made or half-deleted; returns what it removed."""
        self.root.mkdir(mode=0o711, exist_ok=True)
        self.root.chmod(0o711)
        removed = [path.name for path in self.root.iterdir() if path.name not in known]
        for name in removed:
            shutil.rmtree(self.root / name)
        return removed
