"""The driver: which layers are here, who waits for which, what may go."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from lxdpy.config import Config
from lxdpy.drivers.base import (
    BackupSpec,
    BlobSource,
    Collected,
    ImageFile,
    ImageFiles,
    LayerRequest,
    LowerMount,
    PackSpec,
    StoredLayer,
    UnpackedBackup,
    image_layer_id,
)
from lxdpy.drivers.overlay.stack import DIRECTORY
from lxdpy.drivers.store.board import Board
from lxdpy.drivers.store.copying import copy_directory
from lxdpy.drivers.store.disk import Disk
from lxdpy.drivers.store.failures import attempting
from lxdpy.drivers.store.flights import Flights
from lxdpy.drivers.store.holds import Holds
from lxdpy.drivers.store.incoming import IncomingFiles
from lxdpy.drivers.store.messages import Done, FetchRequest, FitRequest, ImageRequest, UnpackRequest
from lxdpy.drivers.store.packing import Packing
from lxdpy.drivers.store.slots import Slots
from lxdpy.drivers.store.stack import Stack, chain_layer_id, own_id
from lxdpy.drivers.store.turn import Turn
from lxdpy.drivers.store.worker import LayerWorkers
from lxdpy.errors import (
    DigestMismatchError,
    LayerError,
    NoSpaceError,
    NotFoundError,
    RegistryError,
)
from lxdpy.linux.attributes import copy_attributes, same_attributes
from lxdpy.linux.remove import remove
from lxdpy.oci.chain_id import chain_ids
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.progress import LayerState, Progress

logger = logging.getLogger(__name__)

_SYNC_DELAY_S = 10.0
_IDLE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Tree:
    """A layer that is unpacked and has to be fitted onto those below."""

    path: Path
    done: Done


class _DamagedBlobError(Exception):
    """A blob is not what its descriptor says."""


class LayerStore:
    """Implements `drivers.base.Store` in the state directory. Belongs to the event loop that it is made in.

    A layer that stands for itself has one job, by diff_id. One that needs those below is unpacked by such a job, too,
    and then fitted by another, by chain id, which takes the tree; two images with different layers below each need one.
    """

    def __init__(self, config: Config, *, idle_timeout_s: float = _IDLE_TIMEOUT_S) -> None:
        self._limits = config.images
        self._idle_timeout_s = idle_timeout_s
        self._disk = Disk(config.state_dir)
        self._disk.prepare()
        self._layers, self._volatile, self._claimed = self._disk.load()
        self._workers = LayerWorkers()
        self._downloads = Slots(config.workers.downloads)
        self._unpacks = Slots(config.workers.unpacks)
        self._packing = Packing(self._disk, self._workers, self._unpacks, self._limits, self.lower_mounts)
        self._unpacking: Flights[StoredLayer | None] = Flights()
        # By diff_id; for the first who takes it.
        self._trees: dict[Digest, _Tree] = {}
        self._fitting: Flights[StoredLayer] = Flights()
        self._importing: Flights[StoredLayer] = Flights()
        self._board = Board()
        self._holds = Holds()
        self._fetching: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()
        self._syncing: asyncio.Task[None] | None = None
        if self._volatile:
            self._sync_soon()

    # ---- documents

    def read_blob(self, digest: Digest) -> bytes | None:
        """See `Store.read_blob`."""
        return self._disk.read_blob(digest)

    def write_blob(self, digest: Digest, data: bytes) -> None:
        """See `Store.write_blob`."""
        self._disk.write_blob(digest, data)

    def write_index(self, manifests: Sequence[tuple[str, Descriptor]]) -> None:
        """See `Store.write_index`."""
        self._disk.write_index(manifests)

    # ---- layers

    def layer(self, layer_id: str) -> StoredLayer | None:
        """See `Store.layer`."""
        return self._layers.get(layer_id)

    def lower_mounts(self, layer_ids: Sequence[str]) -> tuple[LowerMount, ...]:
        """See `Store.lower_mounts`; topmost first. Of a layer that is there twice, what is lower shows nothing new."""
        for layer_id in layer_ids:
            if layer_id not in self._layers:
                raise NotFoundError(f"Layer {layer_id} is not in the store")
        return tuple(
            LowerMount(DIRECTORY, str(self._disk.layer_directory(layer_id))) for layer_id in dict.fromkeys(layer_ids)
        )

    def image_directory(self, fingerprint: str) -> Path:
        """See `Store.image_directory`."""
        layer_id = image_layer_id(fingerprint)
        if layer_id not in self._layers:
            raise NotFoundError(f"Layer {layer_id} is not in the store")
        return self._disk.layer_directory(layer_id).parent

    def release(self, layer_ids: Sequence[str]) -> None:
        """See `Store.release`."""
        self._holds.release(layer_ids)

    async def wake(self) -> None:
        """See `Store.wake`."""
        await self._workers.start()

    async def materialize(self, layers: Sequence[LayerRequest], progress: Progress) -> tuple[StoredLayer, ...]:
        """See `Store.materialize`."""
        if len(layers) > self._limits.max_layers:
            raise LayerError(f"The image has {len(layers)} layers, the limit is {self._limits.max_layers}")
        stack = Stack(layers, chain_ids([layer.diff_id for layer in layers]))
        blobs = [layer.descriptor.digest for layer in layers]
        with self._holds.busy(stack.ids(), blobs):
            missing = [place for place in range(len(layers)) if self._stored(stack, place) is None]
            for place in set(range(len(layers))).difference(missing):
                self._board.finish(layers[place], progress, LayerState.EXISTS)
            await self._make_missing(stack, missing, progress)
            stored = tuple(self._layers[self._id(stack, place)] for place in range(len(layers)))
            for layer, blob in zip(stored, blobs, strict=True):
                self._holds.hold(layer.id, blob)
            return stored

    async def _make_missing(self, stack: Stack, missing: Sequence[int], progress: Progress) -> None:
        wanted = [stack.layers[place] for place in missing]
        if wanted:
            self._disk.check_space(sum({layer.diff_id: layer.descriptor.size for layer in wanted}.values()))
        with self._board.reading(wanted, progress):

            async def make(place: int) -> None:
                await self._made(stack, place)
                self._board.finish(stack.layers[place], progress, LayerState.DONE)

            # The largest first: what takes longest does not begin last.
            by_size = sorted(missing, key=lambda place: -stack.layers[place].descriptor.size)
            await _all(make(place) for place in by_size)

    def _id(self, stack: Stack, place: int) -> str:
        """The id of a layer that is here."""
        own = own_id(stack.layers[place].diff_id)
        return own if own in self._layers else chain_layer_id(stack.chain[place])

    def _stored(self, stack: Stack, place: int) -> StoredLayer | None:
        return self._layers.get(self._id(stack, place))

    async def _made(self, stack: Stack, place: int) -> StoredLayer:
        """The layer at `place`, by a job of one's own or of somebody else's."""
        stored = self._stored(stack, place)
        if stored is not None:
            return stored
        return await self._fitting.join(stack.chain[place], lambda: self._make(stack, place))

    async def _make(self, stack: Stack, place: int) -> StoredLayer:
        layer = stack.layers[place]
        tree = None
        try:
            while tree is None:
                stored = await self._unpacking.join(layer.diff_id, lambda: self._unpack(layer, stack))
                if stored is not None:
                    return stored
                # None there: another image took it for its own stack.
                tree = self._trees.pop(layer.diff_id, None)
        except asyncio.CancelledError:
            if layer.diff_id not in self._unpacking and (left := self._trees.pop(layer.diff_id, None)):
                self._disk.discard(left.path)
            raise
        try:
            return await self._fit(stack, place, tree)
        except BaseException:
            self._disk.discard(tree.path)
            raise

    async def _fit(self, stack: Stack, place: int, tree: _Tree) -> StoredLayer:
        """Phase 2 of a layer, once those below are there."""
        below = [await self._made(stack, lower) for lower in range(place)]
        size_bytes = tree.done.size_bytes
        async with self._unpacks.slot(stack):
            done = await self._workers.fit(
                FitRequest(
                    str(tree.path),
                    tuple(str(self._disk.layer_directory(lower.id)) for lower in reversed(below)),
                    max(0, self._budget(stack) - size_bytes),
                )
            )
        layer = StoredLayer(
            chain_layer_id(stack.chain[place]),
            stack.layers[place].diff_id,
            size_bytes + done.size_bytes,
            tree.done.entries + done.entries,
        )
        self._publish(tree.path, layer)
        return layer

    def _budget(self, stack: Stack) -> int:
        """How many bytes more the image may unpack to."""
        ids = {self._id(stack, place) for place in range(len(stack.layers))}
        used = sum(self._layers[layer_id].size_bytes for layer_id in ids if layer_id in self._layers)
        return max(0, self._limits.max_unpacked_bytes - used)

    # ---- one blob

    async def _unpack(self, layer: LayerRequest, stack: Stack) -> StoredLayer | None:
        """Phase 1 of a layer: from the local blob, else from its source. None: it is in `_trees`, to be fitted."""
        digest = layer.descriptor.digest
        try:
            async with self._alone(digest):
                if self._disk.has_blob(digest, layer.descriptor.size):
                    try:
                        return await self._attempt(layer, stack, fetch=False)
                    except _DamagedBlobError as exc:
                        logger.warning("Blob %s is damaged: %s", digest, exc)
                        self._disk.discard(self._disk.blob(digest))
                if layer.source is None:
                    raise NotFoundError(
                        f"Blob {digest} is not in the store, or damaged, and there is nowhere to fetch it"
                    )
                if self._disk.partial(digest).exists():
                    try:
                        return await self._attempt(layer, stack, fetch=True)
                    except _DamagedBlobError as exc:
                        # What an earlier attempt left may have been the damaged part.
                        logger.warning("Fetching blob %s anew: %s", digest, exc)
                try:
                    return await self._attempt(layer, stack, fetch=True)
                except _DamagedBlobError as exc:
                    raise DigestMismatchError(str(exc)) from exc
        finally:
            self._board.wipe(layer.diff_id)

    @asynccontextmanager
    async def _alone(self, digest: Digest) -> AsyncIterator[None]:
        """Nobody else fetches the blob meanwhile: of two diff_ids for it one is wrong, and nobody knows which."""
        with self._holds.busy((), (digest,)):
            async with self._fetching.setdefault(digest, asyncio.Lock()):
                yield

    async def _attempt(self, layer: LayerRequest, stack: Stack, *, fetch: bool) -> StoredLayer | None:
        """One job for one layer. Raises _DamagedBlobError for a blob that is not what its descriptor says."""
        descriptor, diff_id = layer.descriptor, layer.diff_id
        digest = descriptor.digest
        turn = Turn(self._downloads if fetch else None, self._unpacks, stack)
        verified = False

        def progress(count: int) -> None:
            state = LayerState.UNPACKING if verified or not fetch else LayerState.DOWNLOADING
            self._board.write(diff_id, state, count)

        def fetched() -> None:
            nonlocal verified
            verified = True
            turn.fetched()
            self._board.write(diff_id, LayerState.UNPACKING, descriptor.size)

        await turn.begin()
        path = None
        try:
            endpoints = await layer.source.endpoints() if fetch and layer.source is not None else ()
            if fetch and not endpoints:
                raise RegistryError(f"Cannot fetch blob {digest}: no registry is said to have it")
            with attempting("Cannot make a directory for a layer"):
                path = self._disk.new_layer()
            request = UnpackRequest(
                digest=str(digest),
                size=descriptor.size,
                diff_id=str(diff_id),
                blob=str(self._disk.partial(digest) if fetch else self._disk.blob(digest)),
                endpoints=endpoints,
                directory=str(path),
                max_bytes=self._budget(stack),
                max_entries=self._limits.max_entries,
                idle_timeout_s=self._idle_timeout_s,
            )
            progress(0)
            done = await self._workers.unpack(
                request, layer.source, started=turn.started, progress=progress, fetched=fetched
            )
            if done.size_bytes > self._budget(stack):
                # The layers that were unpacked at the same time have used it up.
                limit = self._limits.max_unpacked_bytes
                raise LayerError(f"Layer {digest} makes the image unpack to more than {limit} bytes, the limit")
            for warning in done.warnings:
                logger.warning("Layer %s: %s", digest, warning)
            if fetch:
                with attempting(f"Cannot keep blob {digest}"):
                    self._disk.keep_blob(digest)
            if done.deferred:
                self._trees[diff_id] = _Tree(path, done)
                return None
            stored = StoredLayer(own_id(diff_id), diff_id, done.size_bytes, done.entries)
            self._publish(path, stored)
            return stored
        except BaseException as exc:
            if path is not None:
                self._disk.discard(path)
            if fetch:
                self._clear_partial(digest, exc)
            if isinstance(exc, DigestMismatchError) and not verified:
                raise _DamagedBlobError(str(exc)) from exc
            raise
        finally:
            await turn.end()

    def _clear_partial(self, digest: Digest, exc: BaseException) -> None:
        """Keep what can be resumed, and nothing else."""
        partial = self._disk.partial(digest)
        with suppress(FileNotFoundError):
            if isinstance(exc, DigestMismatchError | LayerError | NoSpaceError) or not partial.stat().st_size:
                partial.unlink()

    def _publish(self, path: Path, layer: StoredLayer) -> None:
        with attempting(f"Cannot publish layer {layer.id}"):
            self._disk.publish(path, layer)
        self._layers[layer.id] = layer
        self._volatile.add(layer.id)
        self._sync_soon()

    # ---- LXD images

    def receive(self) -> IncomingFiles:
        """See `Store.receive`."""
        return IncomingFiles(self._disk)

    async def pack_image(self, spec: PackSpec, progress: Callable[[int], None]) -> ImageFiles:
        """See `Store.pack_image`."""
        return await self._packing.pack_image(spec, progress)

    async def pack_backup(self, spec: BackupSpec, progress: Callable[[int], None]) -> ImageFile:
        """See `Store.pack_backup`."""
        return await self._packing.pack_backup(spec, progress)

    async def unpack_backup(self, path: Path, *, volume: bool = False) -> UnpackedBackup:
        """See `Store.unpack_backup`."""
        return await self._packing.unpack_backup(path, "volume" if volume else "container")

    def discard_backup(self, backup: UnpackedBackup) -> None:
        """See `Store.discard_backup`."""
        self._packing.discard_backup(backup)

    def discard_files(self, files: ImageFiles) -> None:
        """See `Store.discard_files`."""
        for file in files.all:
            if file.path is not None:
                file.path.unlink(missing_ok=True)

    def image_file(self, digest: Digest) -> ImageFile:
        """See `Store.image_file`."""
        try:
            return ImageFile(digest, self._disk.blob(digest).stat().st_size)
        except FileNotFoundError:
            raise NotFoundError(f"Blob {digest} of an image is missing from the store") from None

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        """See `Store.open_blob`."""
        try:
            file = self._disk.blob(digest).open("rb")
        except FileNotFoundError:
            raise NotFoundError(f"Blob {digest} is missing from the store") from None
        return file, os.fstat(file.fileno()).st_size

    async def fetch_file(
        self, digest: Digest, size: int, source: BlobSource, progress: Callable[[int], None]
    ) -> ImageFile:
        """See `Store.fetch_file`."""
        async with self._alone(digest):
            if not self._disk.has_blob(digest, size):
                resumed = self._disk.partial(digest).exists()
                try:
                    await self._fetch_file(digest, size, source, progress)
                except DigestMismatchError as exc:
                    if not resumed:
                        raise
                    # What an earlier attempt left may have been the damaged part.
                    logger.warning("Fetching blob %s anew: %s", digest, exc)
                    await self._fetch_file(digest, size, source, progress)
        return ImageFile(digest, size)

    async def _fetch_file(self, digest: Digest, size: int, source: BlobSource, progress: Callable[[int], None]) -> None:
        self._disk.check_space(size)
        async with self._downloads.slot(digest):
            request = FetchRequest(
                digest=str(digest),
                size=size,
                blob=str(self._disk.partial(digest)),
                endpoints=await source.endpoints(),
                idle_timeout_s=self._idle_timeout_s,
            )
            try:
                await self._workers.fetch(request, source, progress=progress)
            except BaseException as exc:
                self._clear_partial(digest, exc)
                raise
            with attempting(f"Cannot keep blob {digest}"):
                self._disk.keep_blob(digest)
            progress(size)

    async def unpack_image(self, files: ImageFiles) -> StoredLayer:
        """See `Store.unpack_image`."""
        layer_id = image_layer_id(files.fingerprint)
        blobs = [file.digest for file in files.all]
        with self._holds.busy((layer_id,), blobs):
            layer = self._layers.get(layer_id)
            if layer is None:
                layer = await self._importing.join(files.fingerprint, lambda: self._unpack_image(files))
            with attempting(f"Cannot keep the files of image {files.fingerprint[:12]}"):
                for file in files.all:
                    # Of an image that was unpacked by another's job, or for an instance that is left of it.
                    if file.path is not None and file.path.exists():
                        self._disk.keep_file(file.path, file.digest)
                await asyncio.to_thread(self._disk.sync_blobs)
            self._holds.hold(layer_id, *blobs)
            return layer

    async def _unpack_image(self, files: ImageFiles) -> StoredLayer:
        for file in files.all:
            if file.path is None and not self._disk.has_blob(file.digest, file.size):
                raise NotFoundError(f"Blob {file.digest} of image {files.fingerprint[:12]} is missing from the store")
        self._disk.check_space(files.size)
        path = None
        async with self._unpacks.slot(files.fingerprint):
            try:
                with attempting("Cannot make a directory for an image"):
                    path = self._disk.new_layer()
                paths = [str(file.path or self._disk.blob(file.digest)) for file in files.all]
                done = await self._workers.unpack_image(
                    ImageRequest(
                        fingerprint=files.fingerprint,
                        metadata=paths[0],
                        rootfs=paths[1] if len(paths) > 1 else None,
                        directory=str(path),
                        max_bytes=self._limits.max_unpacked_bytes,
                        max_entries=self._limits.max_entries,
                    )
                )
                for warning in done.warnings:
                    logger.warning("Image %s: %s", files.fingerprint[:12], warning)
                layer = StoredLayer(
                    image_layer_id(files.fingerprint),
                    Digest("sha256", files.fingerprint),
                    done.size_bytes,
                    done.entries,
                )
                self._publish(path, layer)
            except BaseException:
                if path is not None:
                    self._disk.discard(path)
                raise
        return layer

    # ---- upper directories

    def claim(self, layer_id: str) -> None:
        """See `Store.claim`."""
        with attempting(f"Cannot make layer {layer_id}"):
            self._disk.claim(layer_id)
        self._claimed.add(layer_id)

    def adopt(self, layer_id: str, directory: Path) -> StoredLayer:
        """See `Store.adopt`."""
        with attempting(f"Cannot make {directory} layer {layer_id}"):
            layer = self._disk.adopt(layer_id, directory)
        self._layers[layer_id] = layer
        self._claimed.discard(layer_id)
        return layer

    def copy_root(self, layer_id: str, directory: Path) -> None:
        """See `Store.copy_root`."""
        if layer_id not in self._layers:
            raise NotFoundError(f"Layer {layer_id} is not in the store")
        with attempting(f"Cannot copy the attributes of layer {layer_id}"):
            copy_attributes(self._disk.layer_directory(layer_id), directory)

    def adds_nothing(self, layer_id: str, directory: Path) -> bool:
        """See `Store.adds_nothing`."""
        if layer_id not in self._layers:
            raise NotFoundError(f"Layer {layer_id} is not in the store")
        with attempting(f"Cannot look into {directory}"):
            return not os.listdir(directory) and same_attributes(self._disk.layer_directory(layer_id), directory)

    async def copy_directory(self, source: Path, target: Path) -> None:
        """See `Store.copy_directory`."""
        await copy_directory(source, target)

    async def sync(self) -> None:
        """See `Store.sync`."""
        with attempting("Cannot sync the store"):
            await asyncio.to_thread(self._disk.sync_all)

    # ---- durability

    def _sync_soon(self) -> None:
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync())

    async def _sync(self) -> None:
        """Have what was published on disk, and take note of it."""
        while self._volatile:
            await asyncio.sleep(_SYNC_DELAY_S)
            layers = [self._layers[layer_id] for layer_id in self._volatile]
            try:
                await asyncio.to_thread(self._disk.sync, layers)
            except OSError as exc:
                # Not durable, then: a power cut would cost the layers, which are unpacked anew from their blobs.
                logger.error("Cannot sync the store: %s", exc)
                return
            self._volatile.difference_update(layer.id for layer in layers)

    # ---- garbage

    async def collect(self, keep_layers: set[str], keep_blobs: set[Digest]) -> Collected:
        """See `Store.collect`. What goes is renamed at once, and removed before this returns."""
        gone = []
        size_bytes = layers = blobs = 0
        # Without a pause, so that no job comes to rely on what is about to go.
        with attempting("Cannot collect garbage in the store"):
            for layer in list(self._layers.values()):
                if layer.id in keep_layers or self._holds.has_layer(layer.id):
                    continue
                gone.append(self._disk.take_out_layer(layer.id))
                del self._layers[layer.id]
                self._volatile.discard(layer.id)
                layers += 1
                size_bytes += layer.size_bytes
            for layer_id in self._claimed - keep_layers:
                gone.append(self._disk.take_out_layer(layer_id))
                self._claimed.discard(layer_id)
            for digest, path in self._disk.blobs():
                if digest in keep_blobs or self._holds.has_blob(digest):
                    continue
                size_bytes += path.stat().st_size
                gone.append(self._disk.take_out(path))
                blobs += 1
        for path in gone:
            await asyncio.to_thread(remove, path)
        return Collected(layers, blobs, size_bytes)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._importing.close()
        await self._fitting.close()
        await self._unpacking.close()
        await self._workers.close()
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
        await asyncio.to_thread(self._disk.close)


async def _all(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all; the first failure ends the others, and is raised when they have ended."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
