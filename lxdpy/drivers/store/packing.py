"""Files packed by layer workers: images and backups, from layers; and backups, unpacked to what can become layers."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from lxdpy.config import ImagesConfig
from lxdpy.drivers.base import BackupSpec, ImageFile, ImageFiles, LowerMount, PackSpec, UnpackedBackup
from lxdpy.drivers.overlay.stack import DIRECTORY
from lxdpy.drivers.store.disk import Disk
from lxdpy.drivers.store.failures import attempting
from lxdpy.drivers.store.messages import BackupPackRequest, BackupPart, BackupUnpackRequest, Packed, PackRequest
from lxdpy.drivers.store.slots import Slots
from lxdpy.drivers.store.worker import LayerWorkers
from lxdpy.oci.digest import Digest


class Lowers(Protocol):
    """How layers are mounted."""

    def __call__(self, layer_ids: tuple[str, ...]) -> tuple[LowerMount, ...]:
        """As `Store.lower_mounts`."""


class Packing:
    """The part of the store that makes images and backups of layers, and reads backups."""

    def __init__(
        self, disk: Disk, workers: LayerWorkers, slots: Slots, limits: ImagesConfig, lower_mounts: Lowers
    ) -> None:
        self._disk = disk
        self._workers = workers
        self._slots = slots
        self._limits = limits
        self._lower_mounts = lower_mounts

    async def pack_image(self, spec: PackSpec, progress: Callable[[int], None]) -> ImageFiles:
        """See `Store.pack_image`."""
        file = await self._pack(
            "an image",
            lambda directory: self._workers.pack(
                PackRequest(
                    lowers=self._lowers(spec.layers, spec.upper),
                    directory=str(directory),
                    metadata=spec.metadata.decode(),
                    config=None if spec.config is None else spec.config.decode(),
                    templates=None if spec.templates is None else str(spec.templates),
                    time=spec.time,
                    compression=spec.compression.name,
                    level=spec.compression.level,
                ),
                progress,
            ),
        )
        return ImageFiles(file.digest.hex, file)

    async def pack_backup(self, spec: BackupSpec, progress: Callable[[int], None]) -> ImageFile:
        """See `Store.pack_backup`."""
        parts = tuple(
            BackupPart(
                name=part.name,
                lowers=self._lowers(part.layers, part.upper),
                texts=part.texts,
                templates=None if part.templates is None else str(part.templates),
                bare=part.bare,
            )
            for part in spec.parts
        )
        return await self._pack(
            "a backup",
            lambda directory: self._workers.pack_backup(
                BackupPackRequest(
                    directory=str(directory),
                    index=spec.index,
                    parts=parts,
                    time=spec.time,
                    compression=spec.compression.name,
                    level=spec.compression.level,
                ),
                progress,
            ),
        )

    async def _pack(self, what: str, job: Callable[[Path], Awaitable[Packed]]) -> ImageFile:
        """Have `job` make a file called `image` in a directory, and give it a place of its own."""
        directory = self._disk.incoming()
        with attempting(f"Cannot make a directory for {what}"):
            directory.mkdir(mode=0o700)
        try:
            async with self._slots.slot(directory):
                packed = await job(directory)
            path = self._disk.incoming()
            with attempting(f"Cannot keep {what}"):
                os.rename(directory / "image", path)
        finally:
            self._disk.discard(directory)
        return ImageFile(Digest("sha256", packed.fingerprint), packed.size, path)

    def _lowers(self, layers: tuple[str, ...], upper: Path | None) -> tuple[tuple[str, str], ...]:
        """What to mount, topmost first."""
        lowers = self._lower_mounts(layers[::-1])
        if upper is not None:
            lowers = (LowerMount(DIRECTORY, str(upper)), *lowers)
        return tuple((lower.kind, lower.path) for lower in lowers)

    async def unpack_backup(self, path: Path, kind: str) -> UnpackedBackup:
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

    def discard_backup(self, backup: UnpackedBackup) -> None:
        """See `Store.discard_backup`."""
        self._disk.discard(backup.directory)
