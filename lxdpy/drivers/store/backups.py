"""Backups of instances: packed from layers, and unpacked to what can become layers, by layer workers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lxdpy.config import ImagesConfig
from lxdpy.drivers.base import BackupSpec, ImageFile, LowerMount, UnpackedBackup
from lxdpy.drivers.overlay.stack import DIRECTORY
from lxdpy.drivers.store.disk import Disk
from lxdpy.drivers.store.messages import BackupPackRequest, BackupPart, BackupUnpackRequest
from lxdpy.drivers.store.slots import Slots
from lxdpy.drivers.store.worker import LayerWorkers
from lxdpy.errors import WorkerError
from lxdpy.oci.digest import Digest


class Lowers(Protocol):
    """How layers are mounted."""

    def __call__(self, layer_ids: tuple[str, ...]) -> tuple[LowerMount, ...]:
        """As `Store.lower_mounts`."""


class StoreBackups:
    """The part of the store that makes and reads backups."""

    def __init__(
        self, disk: Disk, workers: LayerWorkers, slots: Slots, limits: ImagesConfig, lower_mounts: Lowers
    ) -> None:
        self._disk = disk
        self._workers = workers
        self._slots = slots
        self._limits = limits
        self._lower_mounts = lower_mounts

    async def pack(self, spec: BackupSpec, progress: Callable[[int], None]) -> ImageFile:
        """See `Store.pack_backup`."""
        directory = self._disk.incoming()
        try:
            directory.mkdir(mode=0o700)
            async with self._slots.slot(directory):
                packed = await self._workers.pack_backup(self._request(spec, directory), progress)
            path = self._disk.incoming()
            os.rename(directory / "image", path)
        except OSError as exc:
            raise WorkerError(f"Cannot make a directory for a backup: {exc}") from exc
        finally:
            self._disk.discard(directory)
        return ImageFile(Digest("sha256", packed.fingerprint), packed.size, path)

    def _request(self, spec: BackupSpec, directory: Path) -> BackupPackRequest:
        parts = []
        for part in spec.parts:
            lowers = self._lower_mounts(part.layers[::-1])
            if part.upper is not None:
                lowers = (LowerMount(DIRECTORY, str(part.upper)), *lowers)
            parts.append(
                BackupPart(
                    name=part.name,
                    lowers=tuple((lower.kind, lower.path) for lower in lowers),
                    texts=part.texts,
                    templates=None if part.templates is None else str(part.templates),
                    bare=part.bare,
                )
            )
        return BackupPackRequest(
            directory=str(directory),
            index=spec.index,
            parts=tuple(parts),
            time=spec.time,
            compression=spec.compression.name,
            level=spec.compression.level,
        )

    async def unpack(self, path: Path, kind: str) -> UnpackedBackup:
        """See `Store.unpack_backup`."""
        directory = self._disk.new_layer()
        try:
            async with self._slots.slot(directory):
                contents = await self._workers.unpack_backup(
                    BackupUnpackRequest(
                        path=str(path),
                        kind=kind,
                        directory=str(directory),
                        max_bytes=self._limits.max_unpacked_bytes,
                        max_entries=self._limits.max_entries,
                    )
                )
        except BaseException:
            self._disk.discard(directory)
            raise
        parts = {name: directory / "parts" / str(number) for number, name in enumerate(contents.names)}
        return UnpackedBackup(directory, parts)

    def discard(self, backup: UnpackedBackup) -> None:
        """See `Store.discard_backup`."""
        self._disk.discard(backup.directory)
