"""An instance's directory.

instances/NAME/             0711, holds nothing secret by itself
    rw-HEX/upper .../work   what the container wrote, with real (unshifted) ids; rw-HEX is 0700, because a setuid file
                            that the container's root made there is one of the host's root. The instance's row names
                            the rw-HEX that counts, so that another takes its place in one commit; others are swept when
                            the daemon starts. Earlier versions named it rw
    rootfs disks/           where the start child mounts, in a mount namespace of its own
    network/                resolv.conf, hosts, hostname of an application
    metadata.yaml templates/    what it keeps of its image (metadata.py)
    console.log lxc.log exit run.json
    held-still              here while the daemon has frozen the container by itself
    logs/                   recorded output of exec
instances/.tmp-* .trash-*   being made, being deleted: swept when the daemon starts
"""

import asyncio
import errno
import logging
import os
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lxdpy.errors import InvalidRequestError, NoSpaceError, NotFoundError, WorkerError
from lxdpy.linux.attributes import copy_attributes
from lxdpy.linux.remove import remove as remove_tree
from lxdpy.project import plain_name
from lxdpy.services.instances import metadata

_OWN_LOGS = ("console.log", "lxc.log")
_RECORDED = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}\Z")
_PART = 1 << 20
_RW = "rw-"
OLD_RW = "rw"
"""What earlier versions called every instance's writable layer."""

_HELD = "held-still"

logger = logging.getLogger(__name__)


class InstanceDirectories:
    """The directories of every instance."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir / "instances"

    def path(self, name: str) -> Path:
        """Where the instance is."""
        return self.root / name

    def upper(self, name: str, rw: str) -> Path:
        """Where an instance's writable layer keeps its files."""
        return self.path(name) / rw / "upper"

    def create(self, name: str, rw: str, image: Path | None = None) -> None:
        """Make the directory, with the empty writable layer `rw`, whole or not at all; what the instance keeps of its
        image is copied from `image`. Raises NoSpaceError, WorkerError."""
        fresh = self.temporary()
        self.draft(fresh, name, rw, image)
        try:
            (fresh / rw / "upper").mkdir()
            (fresh / rw / "upper").chmod(0o755)
            self.publish(name, fresh)
        except OSError as exc:
            self.scrap(fresh)
            raise _failed(f'Cannot create the directory of instance "{plain_name(name)}"', exc) from exc
        except BaseException:
            self.scrap(fresh)
            raise

    def temporary(self) -> Path:
        """A path for a draft."""
        return self.root / f".tmp-{uuid.uuid4().hex}"

    def draft(self, fresh: Path, name: str, rw: str, image: Path | None) -> None:
        """Make a directory for an instance that lacks RW/upper, to be filled and given to `publish` or `scrap`; what
        the instance keeps of its image is copied from `image`.

        Raises NoSpaceError, WorkerError.
        """
        try:
            for part, mode in (("", 0o711), (rw, 0o700), (f"{rw}/work", 0o755), ("rootfs", 0o755)):
                (fresh / part).mkdir()
                (fresh / part).chmod(mode)
            (fresh / "network").mkdir(mode=0o755)
            (fresh / "logs").mkdir(mode=0o700)
            if image is not None:
                metadata.copy(image, fresh)
        except OSError as exc:
            self.scrap(fresh)
            raise _failed(f'Cannot create the directory of instance "{plain_name(name)}"', exc) from exc

    def publish(self, name: str, fresh: Path) -> None:
        """Make a draft the directory of an instance. Raises WorkerError."""
        try:
            fresh.rename(self.path(name))
        except OSError as exc:
            raise _failed(f'Cannot create the directory of instance "{plain_name(name)}"', exc) from exc

    @staticmethod
    def scrap(fresh: Path) -> None:
        """Remove a draft; what stays of it, the next start sweeps."""
        with suppress(OSError):
            remove_tree(fresh)

    def rename(self, name: str, new_name: str) -> None:
        """Move the directory to where the instance of another name has it. Raises WorkerError."""
        try:
            self.path(name).rename(self.path(new_name))
        except OSError as exc:
            raise _failed(f'Cannot rename the directory of instance "{plain_name(name)}"', exc) from exc

    # ---- writable layers

    def add_rw(self, name: str, rw: str, *, upper: bool = True) -> None:
        """Make another writable layer beside the one that counts; without `upper`, something will come to be it.

        Raises NoSpaceError, WorkerError.
        """
        directory = self.path(name) / rw
        try:
            parts = (("", 0o700), ("work", 0o755), ("upper", 0o755))
            for part, mode in parts if upper else parts[:2]:
                (directory / part).mkdir()
                (directory / part).chmod(mode)
        except OSError as exc:
            self.scrap(directory)
            raise _failed(f'Cannot make a writable layer of instance "{plain_name(name)}"', exc) from exc

    @staticmethod
    def copy_attributes(source: Path, target: Path) -> None:
        """Give an upper directory the owner, mode and attributes of another. Raises WorkerError."""
        try:
            copy_attributes(source, target)
        except OSError as exc:
            raise _failed(f"Cannot copy the attributes of {source}", exc) from exc

    def discard_rw(self, name: str, rw: str) -> Path | None:
        """Move a writable layer that counts no more out of the way; the caller removes what this returns."""
        trash = self.root / f".trash-{uuid.uuid4().hex}"
        try:
            (self.path(name) / rw).rename(trash)
        except FileNotFoundError:
            return None
        return trash

    def find_rw(self, rw: str) -> Path | None:
        """A writable layer, in whichever instance's directory it is."""
        return next(self.root.glob(f"[!.]*/{rw}"), None)

    # ---- being held still

    def hold(self, name: str) -> None:
        """Note that the container is about to be frozen by the daemon, for the next one. Raises WorkerError."""
        try:
            (self.path(name) / _HELD).touch()
        except OSError as exc:
            raise _failed(f'Cannot freeze instance "{plain_name(name)}"', exc) from exc

    def is_held(self, name: str) -> bool:
        """Whether a daemon froze the container by itself, and has not thawed it."""
        return (self.path(name) / _HELD).exists()

    def let_go(self, name: str) -> None:
        """The container is thawed."""
        (self.path(name) / _HELD).unlink(missing_ok=True)

    # ---- deleting

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
        """Delete a discarded directory. Raises WorkerError; the next start sweeps what stays then."""
        try:
            remove_tree(trash)
        except OSError as exc:
            raise WorkerError(f"Cannot remove {trash}: {exc}") from exc

    # ---- logs

    def log_files(self, name: str) -> list[str]:
        """Names of its log files. Raises NotFoundError."""
        own = [file for file in _OWN_LOGS if (self.path(name) / file).exists()]
        try:
            return sorted(own + os.listdir(self.path(name) / "logs"))
        except FileNotFoundError:
            raise NotFoundError(f'Instance "{plain_name(name)}" not found') from None

    def open_log(self, name: str, file: str) -> BinaryIO:
        """One log file; one of the daemon's own that was not begun yet is empty. Raises NotFoundError."""
        try:
            return self._log(name, file).open("rb")
        except FileNotFoundError:
            if file in _OWN_LOGS:
                return open(os.devnull, "rb")
            raise _no_log(name, file) from None

    def clear_console(self, name: str) -> None:
        """Empty the console log, and remove its earlier part. The monitor goes on at its end, wherever that is."""
        (self.path(name) / "console.log.1").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            os.truncate(self.path(name) / "console.log", 0)

    def delete_log(self, name: str, file: str) -> None:
        """Delete recorded output. Raises NotFoundError, InvalidRequestError for the daemon's own logs."""
        if file in _OWN_LOGS:
            raise InvalidRequestError(f'Cannot delete log file "{file}": only recorded output can be deleted')
        try:
            self._log(name, file).unlink()
        except FileNotFoundError:
            raise _no_log(name, file) from None

    def _log(self, name: str, file: str) -> Path:
        if file in _OWN_LOGS:
            return self.path(name) / file
        if not _RECORDED.match(file):
            raise _no_log(name, file)
        return self.path(name) / "logs" / file

    def write_network_files(self, name: str, files: Mapping[str, str], owner: int) -> None:
        """Write `network/FILE`, owned by the container's root. Raises WorkerError."""
        directory = self.path(name) / "network"
        try:
            for file, text in files.items():
                path = directory / file
                data = text.encode()
                # The container may write these files: one that it made huge is not read.
                if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
                    continue
                path.write_bytes(data)
                os.chown(path, owner, owner)
                path.chmod(0o644)
        except OSError as exc:
            raise WorkerError(f'Cannot write the network files of instance "{plain_name(name)}": {exc}') from exc

    def sweep(self, known: Mapping[str, str]) -> list[Path]:
        """Move what a dead daemon left half-made or half-deleted out of the way; the caller removes what this returns.

        `known` gives the writable layer of each instance that there is. Raises WorkerError.
        """
        try:
            self.root.mkdir(mode=0o711, exist_ok=True)
            self.root.chmod(0o711)
            leftovers = []
            for name in os.listdir(self.root):
                if name.startswith("."):
                    leftovers.append(self.root / name)
                elif name not in known and (trash := self.discard(name)):
                    logger.info("Removing instances/%s, left by an earlier daemon", name)
                    leftovers.append(trash)
                elif name in known:
                    leftovers += self._sweep_layers(name, known[name])
        except OSError as exc:
            raise WorkerError(f"Cannot use {self.root}: {exc}") from exc
        return leftovers

    def _sweep_layers(self, name: str, rw: str) -> list[Path]:
        """Move writable layers out of the way that an instance no longer has, or never came to have."""
        found = [entry for entry in os.listdir(self.path(name)) if entry.startswith(_RW) and entry != rw]
        return [trash for entry in found if (trash := self.discard_rw(name, entry))]

    def recover(self, known: Mapping[str, str]) -> None:
        """Finish what a dead daemon had committed to: instances have their directories, and these their layers.

        `known` is as in `sweep`, which comes after. Raises WorkerError.
        """
        for name, rw in known.items():
            directory = self.path(name) / rw
            if directory.is_dir():
                continue
            try:
                if (self.path(name) / OLD_RW).is_dir():
                    (self.path(name) / OLD_RW).rename(directory)
                elif (found := self.find_rw(rw)) is not None:
                    logger.info(
                        "Renaming instances/%s to %s, as an earlier daemon was about to", found.parent.name, name
                    )
                    found.parent.rename(self.path(name))
                else:
                    logger.error("Instance %s has lost what it wrote: there is no instances/%s/%s", name, name, rw)
            except OSError as exc:
                raise WorkerError(f"Cannot use {self.path(name)}: {exc}") from exc


def new_rw() -> str:
    """A name for a new writable layer, which nothing else ever had."""
    return f"{_RW}{uuid.uuid4().hex}"


async def parts(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file's bytes; closes it."""
    with file:
        while data := await asyncio.to_thread(file.read, _PART):
            yield data


def _failed(attempt: str, exc: OSError) -> NoSpaceError | WorkerError:
    kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
    return kind(f"{attempt}: {exc}")


def _no_log(name: str, file: str) -> NotFoundError:
    return NotFoundError(f'Log file {file!r:.100} of instance "{plain_name(name)}" not found')
