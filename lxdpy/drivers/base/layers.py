"""What the store holds: layers, the files of images and backups, and the ids of layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxdpy.drivers.base.registry import BlobSource
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class LowerMount:
    """How the overlay driver gets at one layer: made by the store, opaque to all but drivers.overlay."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer in the store, unpacked."""

    id: str
    diff_id: Digest | None
    """None: it came from no image, but was an instance's upper directory."""
    size_bytes: int
    """Sum of the files' sizes; 0 of what was an upper directory, which nobody counted."""
    entries: int


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """A layer that an image wants: blob, diff_id and where to fetch it (None: only from the local blob)."""

    descriptor: Descriptor
    diff_id: Digest
    source: BlobSource | None


def image_layer_id(fingerprint: str) -> str:
    """The id of an LXD image's one layer."""
    return f"i-{fingerprint}"


_UPPER, _RW = "s-", "rw-"


def upper_layer_id(rw: str) -> str:
    """The id of the layer that the upper directory of the writable layer `rw` becomes."""
    return _UPPER + rw.removeprefix(_RW)


def is_upper_layer(layer_id: str) -> bool:
    """Whether a layer was an upper directory."""
    return layer_id.startswith(_UPPER)


def rw_of(layer_id: str) -> str:
    """The writable layer whose upper directory became this layer."""
    return _RW + layer_id.removeprefix(_UPPER)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file of an LXD image."""

    digest: Digest
    size: int
    path: Path | None = None
    """Where it is, on the store's file system, from where it will be moved; None: it is a blob of the store already."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The one file or two files of an LXD image."""

    fingerprint: str
    """Hex of the SHA-256 of the file, or of both, one after the other."""
    metadata: ImageFile
    """The file that holds everything, or everything but the root file system."""
    rootfs: ImageFile | None = None

    @property
    def all(self) -> tuple[ImageFile, ...]:
        """The files in the fingerprint's order."""
        return (self.metadata,) if self.rootfs is None else (self.metadata, self.rootfs)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.all)


@dataclass(frozen=True, slots=True)
class Compression:
    """How a file is compressed: none, gzip, bzip2, xz, lzma, zstd or squashfs, and how hard (None: as it does)."""

    name: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class PackSpec:
    """An LXD image to be made of an instance that nobody writes to meanwhile."""

    layers: tuple[str, ...]
    """Base first."""
    upper: Path | None
    """The directory of its topmost layer, which is not the store's; None when there is none."""
    metadata: bytes
    """metadata.yaml."""
    templates: Path | None
    """A directory of plain files."""
    config: bytes | None
    """An OCI image config, when it is an app."""
    time: int
    compression: Compression


@dataclass(frozen=True, slots=True)
class BackupPartSpec:
    """An instance, or one of its snapshots, to be packed; nobody writes to it meanwhile."""

    name: str
    """`container`, or `snapshots/NAME`."""
    layers: tuple[str, ...]
    """Base first."""
    upper: Path | None
    """The directory of its topmost layer, which is not the store's; None when there is none."""
    texts: tuple[tuple[str, str], ...]
    """Files beside the root file system: name and content."""
    templates: Path | None
    """A directory of plain files."""
    bare: bool = False
    """A volume, or a snapshot of one (`volume`, `volume-snapshots/NAME`): its files, and nothing beside them."""


@dataclass(frozen=True, slots=True)
class BackupSpec:
    """A backup to be made: an index, and the parts in the order in which they come."""

    index: str
    parts: tuple[BackupPartSpec, ...]
    time: int
    compression: Compression


@dataclass(frozen=True, slots=True)
class UnpackedBackup:
    """A backup in a directory of the store's: index.yaml; and for each part, by its name in the backup, a directory
    with `fs`, the root file system, and what was beside it."""

    directory: Path
    parts: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection removed."""

    layers: int
    blobs: int
    size_bytes: int
