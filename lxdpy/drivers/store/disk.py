"""The store's files: names, what counts as whole, space.

    STATE/oci-layout  index.json              an OCI image layout: skopeo can read it as it is
          blobs/ALGORITHM/HEX
          ingest/HEX.partial                  blobs being fetched, resumable; gone after a week
          layers/.tmp-*                       unpacking, or deletion, under way; swept at start
          layers/ID/{fs,meta.json}            unpacked layers. ID: d-HEX of the diff_id; c-HEX of the chain id, if what
                                              the layer unpacks to depends on the layers below it; i-HEX of the
                                              fingerprint of an LXD image, with metadata.yaml and templates/ beside fs
          layers/s-HEX/fs                     what was the upper directory of an instance, rw-HEX; without fs it is only
                                              claimed yet

Everything is written under a temporary name and then renamed. What the disk itself has not got yet (a power cut would
take it, or half of it) is told by meta.json: `durable` is set after a syncfs, and a layer of another boot without it is
not taken for whole. Upper directories are nowhere else: they count as whole, and whoever copies one syncs it first.
Blobs are verified whenever they are read.
"""

import errno
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lxdpy.drivers.base import StoredLayer, is_upper_layer
from lxdpy.drivers.store import trash
from lxdpy.errors import DigestMismatchError, NoSpaceError, WorkerError
from lxdpy.linux.syncfs import syncfs
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.media_types import OCI_INDEX

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 4 << 20
PARTIAL_DAYS = 7

_TEMPORARY = ".tmp-"
_OCI_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# What a byte of a compressed layer takes: itself, and what it unpacks to.
_SPACE_FACTOR = 3.5
# Real images have one file for 3 to 20 KiB of compressed layer; fewer are expected here, to refuse no image in error.
_BYTES_PER_INODE = 32 << 10


class Disk:
    """The store's part of the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._blobs = state_dir / "blobs"
        self._ingest = state_dir / "ingest"
        self._layers = state_dir / "layers"
        self._boot_id = _BOOT_ID.read_text().strip()
        self._bin = trash.Bin()

    def close(self) -> None:
        """Wait for the deletion under way."""
        self._bin.close()

    # ---- start

    def prepare(self) -> None:
        """Make the directories; what an earlier daemon left unfinished goes in the background. Raises WorkerError."""
        try:
            for directory in (self._blobs / "sha256", self._blobs / "sha512", self._ingest, self._layers):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            layout = self._state_dir / "oci-layout"
            if not layout.exists():
                self._write(layout, _OCI_LAYOUT)
            leftovers = [path for path in self._layers.iterdir() if path.name.startswith(_TEMPORARY)]
            leftovers += [path for path in self._ingest.iterdir() if not path.name.endswith(".partial")]
            for algorithm in self._blobs.iterdir():
                leftovers += [path for path in algorithm.iterdir() if path.name.startswith(_TEMPORARY)]
            expired = time.time() - PARTIAL_DAYS * 86400
            leftovers += [path for path in self._ingest.glob("*.partial") if path.stat().st_mtime < expired]
        except OSError as exc:
            raise WorkerError(f"Cannot set up the store in {self._state_dir}: {exc}") from exc
        for path in leftovers:
            self._bin.put(path)

    def load(self) -> tuple[dict[str, StoredLayer], set[str], set[str]]:
        """The layers that are whole, the ids of those that a power cut would still take, and those that are claimed."""
        layers: dict[str, StoredLayer] = {}
        volatile, claimed = set(), set()
        for path in self._layers.iterdir():
            if path.name.startswith(_TEMPORARY):
                continue
            if is_upper_layer(path.name):
                if (path / "fs").is_dir():
                    layers[path.name] = upper_layer(path.name)
                else:
                    claimed.add(path.name)
                continue
            try:
                meta = json.loads((path / "meta.json").read_bytes())
                layer = StoredLayer(path.name, Digest.parse(meta["diff_id"]), meta["size_bytes"], meta["entries"])
                durable, boot_id = meta["durable"], meta["boot_id"]
            except (OSError, ValueError, KeyError, TypeError) as exc:
                logger.warning("Layer %s has no readable meta.json (%s): it will be unpacked anew", path.name, exc)
                self.discard(path)
                continue
            if not durable and boot_id != self._boot_id:
                logger.warning("Layer %s was not yet on disk when the host went down", path.name)
                self.discard(path)
                continue
            if not durable:
                volatile.add(layer.id)
            layers[layer.id] = layer
        return layers, volatile, claimed

    # ---- layers

    def new_layer(self) -> Path:
        """An empty directory for a layer: it has `fs`."""
        path = self._temporary(self._layers)
        path.mkdir(mode=0o700)
        (path / "fs").mkdir(mode=0o755)
        return path

    def publish(self, path: Path, layer: StoredLayer) -> None:
        """Make the directory that `new_layer` gave, which is complete, the layer. Raises OSError."""
        self._write_meta(path, layer, durable=False)
        os.rename(path, self._layers / layer.id)

    def claim(self, layer_id: str) -> None:
        """Make the directory that `adopt` needs. Raises OSError."""
        (self._layers / layer_id).mkdir(mode=0o700, exist_ok=True)

    def adopt(self, layer_id: str, directory: Path) -> StoredLayer:
        """Make `directory` the files of a layer. Raises OSError."""
        os.rename(directory, self.layer_directory(layer_id))
        return upper_layer(layer_id)

    def layer_directory(self, layer_id: str) -> Path:
        """Where a layer's files are."""
        return self._layers / layer_id / "fs"

    def take_out(self, path: Path) -> Path:
        """Rename a layer or blob, which is gone with it, to a temporary name, which is returned. Raises OSError."""
        new = self._temporary(self._layers)
        os.rename(path, new)
        return new

    def take_out_layer(self, layer_id: str) -> Path:
        """`take_out` of a layer."""
        return self.take_out(self._layers / layer_id)

    def discard(self, path: Path) -> None:
        """Remove a temporary directory, or a layer that does not count, by and by."""
        with suppress(FileNotFoundError):
            self._bin.put(self.take_out(path))

    def sync(self, layers: Iterable[StoredLayer]) -> None:
        """Have everything on disk, and say so of `layers`, except those that are gone meanwhile. Raises OSError."""
        self.sync_all()
        for layer in layers:
            with suppress(FileNotFoundError):
                self._write_meta(self._layers / layer.id, layer, durable=True)

    def sync_all(self) -> None:
        """Have everything on disk. Raises OSError."""
        fd = os.open(self._layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def _write_meta(self, path: Path, layer: StoredLayer, *, durable: bool) -> None:
        meta = {
            "diff_id": str(layer.diff_id),
            "size_bytes": layer.size_bytes,
            "entries": layer.entries,
            "boot_id": self._boot_id,
            "durable": durable,
        }
        temporary = path / "meta.json.new"
        temporary.write_text(json.dumps(meta))
        os.rename(temporary, path / "meta.json")

    # ---- blobs

    def blob(self, digest: Digest) -> Path:
        """Where a blob is, if it is here."""
        return self._blobs / digest.algorithm / digest.hex

    def blobs(self) -> list[tuple[Digest, Path]]:
        """All blobs that are here."""
        found = []
        for algorithm in ("sha256", "sha512"):
            for path in (self._blobs / algorithm).iterdir():
                if not path.name.startswith(_TEMPORARY):
                    found.append((Digest.parse(f"{algorithm}:{path.name}"), path))
        return found

    def has_blob(self, digest: Digest, size: int) -> bool:
        """Whether a blob of this size is here; its content is for the reader to verify."""
        try:
            return self.blob(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def read_blob(self, digest: Digest) -> bytes | None:
        """A document; None when it is absent, too large for one, or not what it should be."""
        try:
            with self.blob(digest).open("rb") as file:
                data = file.read(MAX_DOCUMENT_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > MAX_DOCUMENT_BYTES or not digest.matches(data):
            return None
        return data

    def write_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a document. Raises DigestMismatchError, NoSpaceError, WorkerError."""
        if not digest.matches(data):
            raise DigestMismatchError(f"Cannot store document {digest}: its content has another digest")
        if self.read_blob(digest) is None:
            self._write(self.blob(digest), data)

    def write_index(self, manifests: Sequence[tuple[str, Descriptor]]) -> None:
        """Name the images of the layout. Raises NoSpaceError, WorkerError."""
        entries = [
            {
                "mediaType": manifest.media_type,
                "digest": str(manifest.digest),
                "size": manifest.size,
                "annotations": {"org.opencontainers.image.ref.name": name},
            }
            for name, manifest in manifests
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        self._write(self._state_dir / "index.json", json.dumps(document, indent=1).encode(), self._ingest)

    def partial(self, digest: Digest) -> Path:
        """Where a blob grows while it is fetched."""
        return self._ingest / f"{digest.hex}.partial"

    def keep_blob(self, digest: Digest) -> None:
        """The partial blob is whole and verified. Raises OSError."""
        os.rename(self.partial(digest), self.blob(digest))

    def incoming(self) -> Path:
        """A name for a file that is being received; what an earlier daemon has received is swept."""
        return self._temporary(self._ingest)

    def keep_file(self, path: Path, digest: Digest) -> None:
        """A file that was received, and verified, is a blob. Raises OSError."""
        os.rename(path, self.blob(digest))

    def sync_blobs(self) -> None:
        """Have the names of blobs on disk. Raises OSError."""
        fd = os.open(self._blobs / "sha256", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _write(self, path: Path, data: bytes, staging: Path | None = None) -> None:
        """Write a file whole or not at all; `staging` is a directory that is swept, where its own is not."""
        temporary = self._temporary(staging or path.parent)
        try:
            try:
                temporary.write_bytes(data)
                os.rename(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as exc:
            kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
            raise kind(f"Cannot write {path}: {exc.strerror}") from exc

    def _temporary(self, directory: Path) -> Path:
        return directory / f"{_TEMPORARY}{secrets.token_hex(8)}"

    # ---- space

    def check_space(self, compressed_bytes: int) -> None:
        """Whether layers of so many compressed bytes may fit. Raises NoSpaceError."""
        space = os.statvfs(self._layers)
        needed, available = int(compressed_bytes * _SPACE_FACTOR), space.f_bavail * space.f_frsize
        if needed > available:
            raise NoSpaceError(
                f"Cannot store layers in {self._layers}: they need about {needed >> 20} MiB, "
                f"and {available >> 20} MiB are available"
            )
        inodes = compressed_bytes // _BYTES_PER_INODE
        # Some file systems have no fixed number of inodes, and say 0.
        if space.f_files and inodes > space.f_favail:
            raise NoSpaceError(
                f"Cannot store layers in {self._layers}: they need about {inodes} inodes, "
                f"and {space.f_favail} are available"
            )


def upper_layer(layer_id: str) -> StoredLayer:
    """A layer that was an upper directory."""
    return StoredLayer(layer_id, None, 0, 0)
