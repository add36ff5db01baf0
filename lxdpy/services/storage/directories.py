"""Where pools keep their volumes.

storage-pools/POOL/       or the directory that the pool's `source` names
    custom/PROJECT_VOLUME_HEX/                      a volume's files with real (unshifted) ids; custom/ is 0700,
                                                    because a setuid file in there may be one of the host's root
    custom-snapshots/PROJECT_VOLUME_SNAPSHOT_HEX/   the same, as it was

The name of a directory is the row's to know, and never changes: what is renamed or restored is a row. A directory that
no row names is half-made or half-deleted, and is swept when the daemon starts.
"""

import errno
import os
import uuid
from pathlib import Path

from lxdpy.db.storage import PoolRecord
from lxdpy.errors import InvalidRequestError, NoSpaceError, WorkerError
from lxdpy.linux.remove import remove as remove_tree
from lxdpy.services.storage.model import DEFAULT_POOL, PoolResources

_VOLUMES = "custom"
_SNAPSHOTS = "custom-snapshots"
_READABLE_BYTES = 200


class PoolDirectories:
    """The directories of every pool."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._root = state_dir / "storage-pools"

    def path(self, pool: PoolRecord) -> Path:
        """Where a pool's volumes are."""
        return Path(pool.config.get("source") or self._root / pool.name)

    def source(self, pool: PoolRecord) -> Path:
        """What a pool stands on, as clients read it."""
        return self._state_dir if pool.name == DEFAULT_POOL else self.path(pool)

    def create(self, pool: PoolRecord) -> None:
        """Make the directory of a pool that has none of the administrator's. Raises NoSpaceError, WorkerError."""
        if "source" in pool.config:
            return
        try:
            self.path(pool).mkdir(mode=0o711, exist_ok=True)
        except OSError as exc:
            raise _failed(f'Cannot create storage pool "{pool.name}"', exc) from exc

    def check_source(self, source: str, others: list[PoolRecord]) -> Path:
        """The directory that a new pool may have as its own. Raises InvalidRequestError."""
        if not source.startswith("/"):
            raise InvalidRequestError(f"Source path {source!r:.200} must be absolute")
        path = Path(os.path.realpath(source))
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            raise InvalidRequestError(f"Source path '{source:.200}' doesn't exist") from None
        except OSError as exc:
            raise InvalidRequestError(f"Cannot use source path '{source:.200}': {exc.strerror}") from exc
        if names:
            raise InvalidRequestError(f"Source path '{source:.200}' isn't empty")
        for taken in (self._state_dir, *(self.path(pool) for pool in others)):
            if path.is_relative_to(taken) or taken.is_relative_to(path):
                raise InvalidRequestError(f"Source path '{source:.200}' is within {taken}, or around it")
        return path

    def discard(self, pool: PoolRecord) -> None:
        """Remove what is left of a pool without volumes; an administrator's directory stays. Raises WorkerError."""
        path = self.path(pool)
        try:
            for part in (_VOLUMES, _SNAPSHOTS):
                remove_tree(path / part)
            if "source" not in pool.config:
                remove_tree(path)
        except OSError as exc:
            raise WorkerError(f'Cannot remove storage pool "{pool.name}": {exc}') from exc

    def is_there(self, pool: PoolRecord) -> bool:
        """Whether the pool's directory exists."""
        return self.path(pool).is_dir()

    def resources(self, pool: PoolRecord) -> PoolResources:
        """Numbers of its file system now. Raises WorkerError."""
        try:
            found = os.statvfs(self.path(pool))
        except OSError as exc:
            raise WorkerError(f'Cannot read the resources of storage pool "{pool.name}": {exc}') from exc
        return PoolResources(
            space_total=found.f_blocks * found.f_frsize,
            space_used=(found.f_blocks - found.f_bfree) * found.f_frsize,
            inodes_total=found.f_files,
            inodes_used=found.f_files - found.f_ffree,
        )

    # ---- volumes

    def volume(self, pool: PoolRecord, directory: str) -> Path:
        """Where a custom volume's files are."""
        return self.path(pool) / _VOLUMES / directory

    def snapshot(self, pool: PoolRecord, directory: str) -> Path:
        """Where a snapshot's files are."""
        return self.path(pool) / _SNAPSHOTS / directory

    @staticmethod
    def prepare(place: Path) -> None:
        """Make the directory that `place` is to be in. Raises NoSpaceError, WorkerError (the pool is not there)."""
        try:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            place.parent.chmod(0o700)
        except OSError as exc:
            raise _failed(f"Cannot make {place}", exc) from exc

    def create_volume(self, place: Path) -> None:
        """Make an empty volume. Raises NoSpaceError, WorkerError."""
        self.prepare(place)
        try:
            place.mkdir()
            place.chmod(0o711)
        except OSError as exc:
            raise _failed(f"Cannot make {place}", exc) from exc
        self.sync(place)

    @staticmethod
    def sync(place: Path) -> None:
        """Have `place` found after a power cut. Raises NoSpaceError, WorkerError."""
        try:
            fd = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            raise _failed(f"Cannot make {place}", exc) from exc

    def sweep(
        self, pools: list[PoolRecord], volumes: set[tuple[str, str]], snapshots: set[tuple[str, str]]
    ) -> list[Path]:
        """Make the pools' own directories, and find what no row names: the caller removes what this returns.

        `volumes` and `snapshots` are pairs of pool and directory. Raises WorkerError.
        """
        try:
            self._root.mkdir(mode=0o711, exist_ok=True)
            self._root.chmod(0o711)
            leftovers = []
            for pool in pools:
                self.create(pool)
                for part, held in ((_VOLUMES, volumes), (_SNAPSHOTS, snapshots)):
                    known = {directory for name, directory in held if name == pool.name}
                    leftovers += _unknown(self.path(pool) / part, known)
            own = {pool.name for pool in pools if "source" not in pool.config}
            return leftovers + _unknown(self._root, own)
        except OSError as exc:
            raise WorkerError(f"Cannot use {self._root}: {exc}") from exc

    @staticmethod
    def remove(trash: Path) -> None:
        """Delete a tree. Raises WorkerError; the next start sweeps what stays then."""
        try:
            remove_tree(trash)
        except OSError as exc:
            raise WorkerError(f"Cannot remove {trash}: {exc}") from exc


def new_directory(*names: str) -> str:
    """A name for a directory that nothing else will ever have, and from which an administrator sees what it is for."""
    readable = "_".join(names)
    while len(os.fsencode(readable)) > _READABLE_BYTES:
        readable = readable[:-1]
    return f"{readable}_{uuid.uuid4().hex[:16]}"


def _unknown(directory: Path, known: set[str]) -> list[Path]:
    """What is in a directory and not known; nothing, when it does not exist."""
    try:
        return [directory / name for name in os.listdir(directory) if name not in known]
    except FileNotFoundError:
        return []


def _failed(attempt: str, exc: OSError) -> WorkerError | NoSpaceError:
    kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
    return kind(f"{attempt}: {exc}")
