"""Blobs and unpacked layers on this host's disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from lxdpy.drivers.base.layers import (
    BackupSpec,
    Collected,
    ImageFile,
    ImageFiles,
    LayerRequest,
    LowerMount,
    PackSpec,
    StoredLayer,
    UnpackedBackup,
)
from lxdpy.drivers.base.registry import BlobSource
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.progress import Progress


class Incoming(Protocol):
    """The files of an LXD image on their way into the store: written in order, and hashed meanwhile."""

    async def write(self, data: bytes) -> None:
        """Add to the current file. Raises NoSpaceError, WorkerError."""

    async def next_file(self) -> None:
        """The first file is whole, and a second one begins. Raises InvalidRequestError when it had begun before."""

    async def finish(self) -> ImageFiles:
        """All is here, and on disk; `discard` it, or have it imported. Raises NoSpaceError, WorkerError,
        InvalidRequestError when nothing has come."""

    def discard(self) -> None:
        """Remove what no import has taken."""


class Store(Protocol):
    """Content-addressed blobs and unpacked layers."""

    def read_blob(self, digest: Digest) -> bytes | None:
        """A document's bytes (manifest, index, config; at most 4 MiB), verified; None if absent."""

    def write_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a document. Raises DigestMismatchError, NoSpaceError."""

    def write_index(self, manifests: Sequence[tuple[str, Descriptor]]) -> None:
        """Say under which names (name, manifest) the blobs are to be found: the index.json of the OCI image layout that
        the store is (image-spec, image-layout.md). Raises NoSpaceError, WorkerError."""

    async def wake(self) -> None:
        """A pull is about to come: start what it takes, while its image is still being resolved. Raises WorkerError."""

    async def materialize(self, layers: Sequence[LayerRequest], progress: Progress) -> tuple[StoredLayer, ...]:
        """Make every layer of one image present and unpacked; base first, as in the manifest.

        Missing blobs are fetched and unpacked in parallel, one process per layer; two callers that want the same layer
        share one job. The layers returned, and their blobs, can't be collected before `release` is called with the
        same layers' ids. Raises RegistryError, DigestMismatchError, AccessDeniedError, LayerError, NoSpaceError,
        WorkerError.
        """

    def receive(self) -> Incoming:
        """Begin to receive an LXD image."""

    async def pack_image(self, spec: PackSpec, progress: Callable[[int], None]) -> ImageFiles:
        """Make an LXD image, to be imported, and `discard_files` in any case; `progress` is called with the bytes that
        are in. Raises NotFoundError (a layer is gone), UnsupportedError, LayerError, NoSpaceError, WorkerError."""

    async def pack_backup(self, spec: BackupSpec, progress: Callable[[int], None]) -> ImageFile:
        """Pack a backup; `progress` is called with bytes. The file is the caller's, who moves it away or unlinks it.

        Raises UnsupportedError (the compression), LayerError, NotFoundError (a layer), NoSpaceError, WorkerError.
        """

    async def unpack_backup(self, path: Path, *, volume: bool = False) -> UnpackedBackup:
        """Unpack a backup, of an instance or a volume, of whoever it is.

        Raises LayerError, UnsupportedError, NoSpaceError, WorkerError.
        """

    def discard_backup(self, backup: UnpackedBackup) -> None:
        """Remove what `unpack_backup` has made, and nobody has taken."""

    def discard_files(self, files: ImageFiles) -> None:
        """Remove what no import has taken."""

    async def fetch_file(
        self, digest: Digest, size: int, source: BlobSource, progress: Callable[[int], None]
    ) -> ImageFile:
        """Fetch a file of an LXD image, unless it is a blob here; `progress` hears how many bytes are in.

        Resumed where an earlier try broke off. The caller keeps the blob from collection. Raises RegistryError,
        DigestMismatchError, AccessDeniedError, NoSpaceError, WorkerError.
        """

    def image_file(self, digest: Digest) -> ImageFile:
        """A file of an LXD image that is a blob here. Raises NotFoundError."""

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        """A blob, open for reading, and its size; it can be read even when it is collected. Raises NotFoundError."""

    async def unpack_image(self, files: ImageFiles) -> StoredLayer:
        """Unpack an LXD image, unless it is, and keep its files as blobs once they have proved to be what they should.

        The layer and the blobs can't be collected before `release` is called with the layer's id. Raises LayerError
        (it is no image, or over a limit), DigestMismatchError, UnsupportedError, NotFoundError (a blob is gone),
        NoSpaceError, WorkerError.
        """

    def release(self, layer_ids: Sequence[str]) -> None:
        """End the protection that `materialize` or `unpack_image` gave: the database refers to the layers by now, or
        never will."""

    def lower_mounts(self, layer_ids: Sequence[str]) -> tuple[LowerMount, ...]:
        """How to mount these layers, in the order given. Raises NotFoundError."""

    def image_directory(self, fingerprint: str) -> Path:
        """Where metadata.yaml and templates/ of an LXD image are while its layer is here. Raises NotFoundError."""

    def layer(self, layer_id: str) -> StoredLayer | None:
        """One layer, if it is whole."""

    def claim(self, layer_id: str) -> None:
        """Make room for a layer that `adopt` is about to bring, so that only a rename is left to do.

        The caller keeps it from collection. Raises NoSpaceError, WorkerError.
        """

    def adopt(self, layer_id: str, directory: Path) -> StoredLayer:
        """Make an upper directory, which no mount uses, the layer that was claimed, by one rename. It can't be rebuilt.

        Raises WorkerError.
        """

    def copy_root(self, layer_id: str, directory: Path) -> None:
        """Give a directory owner, mode and attributes of a layer's root. Raises NotFoundError, WorkerError."""

    def adds_nothing(self, layer_id: str, directory: Path) -> bool:
        """Whether an upper directory shows nothing but what the layer right below it does. Raises NotFoundError,
        WorkerError."""

    async def copy_directory(self, source: Path, target: Path) -> None:
        """Make `target` a copy of an upper directory, down to hard links, whiteouts and extended attributes. Data is
        shared where the file system can. What there is of it after a failure is the caller's to remove.

        Raises NoSpaceError, WorkerError.
        """

    async def sync(self) -> None:
        """Have on disk what was written so far: what is named in the database after this is whole after a power cut.

        Raises WorkerError.
        """

    async def collect(self, keep_layers: set[str], keep_blobs: set[Digest]) -> Collected:
        """Remove layers and blobs that are neither in `keep_*` nor in use by a running job.

        What goes is gone for everybody before the first pause: `keep_*` can't be out of date.
        """

    async def close(self) -> None:
        """Cancel running jobs and end the workers."""
