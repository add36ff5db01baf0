"""Unpack an LXD image: one file that holds everything, or one of metadata and one of the root file system.

    metadata.yaml   templates/NAME   rootfs/...     one file: a tarball, compressed or not, or squashfs
    metadata.yaml   templates/NAME                  two: the first one is like that,
    bin/ etc/ ...                                   and the second one holds the root file system itself

    DIRECTORY/fs             the root file system
              metadata.yaml  as it came, once it was understood
              templates/     plain files
              oci.json       how it runs, when lxdpy published an app: an OCI image config

One thread hashes the files while another unpacks them: what was unpacked counts only when the fingerprint is right.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator

from lxdpy import image_metadata
from lxdpy.drivers.store.messages import Done, ImageRequest
from lxdpy.errors import DigestMismatchError, InvalidRequestError, LayerError, RegistryError, UnsupportedError
from lxdpy.oci.image_config import ImageConfig
from lxdpy.workers.layers.confine import confine
from lxdpy.workers.layers.decompress import SQUASHFS_MAGIC, decompress
from lxdpy.workers.layers.squashfs import SquashfsReader
from lxdpy.workers.layers.tar import DIRECTORY, HARDLINK, REGULAR, Entry, TarReader, show
from lxdpy.workers.layers.tree import Tree

METADATA = image_metadata.FILE
TEMPLATES = image_metadata.TEMPLATES
OCI_CONFIG = "oci.json"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 256 << 10
_MAX_TEMPLATES = 1000
_MAX_NAME_BYTES = 255
_MAX_TEMPLATE_BYTES = 1 << 20
_MAX_CONFIG_BYTES = 4 << 20
_MAX_TEMPLATES_BYTES = 16 << 20
# As for layers: a bomb is a bomb when it is large, too.
_MAX_RATIO = 1000
_RATIO_MATTERS_BYTES = 1 << 30


def unpack_image(request: ImageRequest, confined: Callable[[], None]) -> Done:
    """Do the job; `confined` is called when threads may be started. Raises LayerError, DigestMismatchError,
    UnsupportedError, OSError."""
    directory_fd = os.open(request.directory, _DIRECTORY)
    root_fd = os.open("fs", _DIRECTORY, dir_fd=directory_fd)
    files = [
        ArchiveFile(path, request.max_bytes) for path in (request.metadata, request.rootfs) if path is not None
    ]  # fmt: skip
    confine(directory_fd, request.max_bytes)
    confined()
    hasher = _Hasher(files)
    hasher.start()
    about = About()
    tree = Tree(root_fd, request.max_entries, whiteouts=False)
    try:
        if request.rootfs is None:
            contents = _Unified(files[0].tar(), about)
            unpacked = tree.unpack(contents)
            files[0].drain()
            about.check()
            if not contents.has_rootfs:
                raise LayerError("The file is no image: it has no rootfs")
        else:
            about.read(files[0].tar())
            files[0].drain()
            about.check()
            unpacked = tree.unpack(files[1].tar())
            files[1].drain()
    except UnsupportedError:
        raise
    except (InvalidRequestError, RegistryError) as exc:
        raise LayerError(f"The file is no image: {exc}") from exc
    except LayerError:
        # It may be just not the file that was meant.
        hasher.verify(request.fingerprint)
        raise
    if unpacked.deferred.hardlinks:
        name, target = unpacked.deferred.hardlinks[0]
        raise LayerError(f"Cannot unpack {show(name)}: it links to {show(target)}, which is not in the image")
    hasher.verify(request.fingerprint)
    about.write(directory_fd)
    return Done(unpacked.entries, unpacked.size_bytes, False, tuple(unpacked.warnings))


class ArchiveFile:
    """One file of the image, open."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        size = os.fstat(self.fd).st_size
        self._max_bytes = min(max_bytes, max(_RATIO_MATTERS_BYTES, size * _MAX_RATIO))
        squashed = os.pread(self.fd, len(SQUASHFS_MAGIC), 0) == SQUASHFS_MAGIC
        self._squashfs = SquashfsReader(self.fd) if squashed else None
        self._stream: Iterator[bytes] = iter(())

    def tar(self) -> TarReader:
        """The tar stream in it."""
        self._stream = self._limited()
        return TarReader(self._stream)

    def drain(self) -> None:
        """See the stream to its end: what comes after the archive may be cut off, too."""
        for _ in self._stream:
            pass

    def chunks(self) -> Iterator[bytes]:
        """The file."""
        offset = 0
        while chunk := os.pread(self.fd, _CHUNK_BYTES, offset):
            offset += len(chunk)
            yield chunk

    def _limited(self) -> Iterator[bytes]:
        count = 0
        for piece in self._squashfs.chunks() if self._squashfs else decompress(self.chunks()):
            count += len(piece)
            if count > self._max_bytes:
                raise LayerError(f"The image unpacks to more than {self._max_bytes} bytes, the limit")
            yield piece


class _Hasher(threading.Thread):
    """Hashes the files, one after the other: their fingerprint."""

    def __init__(self, files: Iterable[ArchiveFile]) -> None:
        super().__init__(daemon=True)
        self._files = files
        self._hash = hashlib.sha256()
        self._failure: OSError | None = None

    def run(self) -> None:
        try:
            for file in self._files:
                for chunk in file.chunks():
                    self._hash.update(chunk)
        except OSError as exc:
            self._failure = exc

    def verify(self, fingerprint: str) -> None:
        """Wait for the end. Raises DigestMismatchError, OSError."""
        self.join()
        if self._failure is not None:
            raise self._failure
        if (found := self._hash.hexdigest()) != fingerprint:
            raise DigestMismatchError(f"The image's fingerprint is {found}, and not {fingerprint}")


class About:
    """What the image holds beside its root file system."""

    def __init__(self) -> None:
        self._metadata: bytes | None = None
        self._config: bytes | None = None
        self._templates: dict[bytes, bytes] = {}
        self._left = _MAX_TEMPLATES_BYTES

    def read(self, reader: TarReader) -> None:
        """Take note of all that a metadata file holds."""
        for entry in reader:
            self.take(entry, parts_of(entry.path), reader)

    def take(self, entry: Entry, parts: list[bytes], reader: TarReader) -> None:
        """Take note of an entry, or leave it be."""
        match parts:
            case [b"metadata.yaml"]:
                self._metadata = content_of(entry, reader, image_metadata.MAX_BYTES)
            case [b"oci.json"]:
                self._config = content_of(entry, reader, _MAX_CONFIG_BYTES)
            case [b"rootfs.img"]:
                raise UnsupportedError("It is the image of a virtual machine: only containers are supported")
            case [b"templates"] if entry.kind == DIRECTORY:
                pass
            case [b"templates", name] if entry.kind == REGULAR:
                if name == b".." or b"\0" in name or len(name) > _MAX_NAME_BYTES:
                    raise LayerError(f"Unsupported entry in the image: {show(entry.path)} is no file's name")
                content = content_of(entry, reader, _MAX_TEMPLATE_BYTES)
                self._left -= len(content)
                if len(self._templates) >= _MAX_TEMPLATES or self._left < 0:
                    raise LayerError(
                        f"The image has more than {_MAX_TEMPLATES} templates, or {_MAX_TEMPLATES_BYTES} bytes of them"
                    )
                self._templates[name] = content
            case [b"templates", *_]:
                raise LayerError(f"Unsupported entry in the image: {show(entry.path)} is no plain file")

    @property
    def is_there(self) -> bool:
        """Whether there was any metadata."""
        return self._metadata is not None

    def check(self) -> None:
        """Whether it is an image's. Raises LayerError, InvalidRequestError."""
        if self._metadata is None:
            raise LayerError("The file is no image: it has no metadata.yaml")
        image_metadata.parse(self._metadata)
        if self._config is not None:
            ImageConfig.parse(self._config)

    def write(self, directory_fd: int) -> None:
        """Write it beside the root file system."""
        _write(directory_fd, METADATA, self._metadata or b"")
        if self._config is not None:
            _write(directory_fd, OCI_CONFIG, self._config)
        os.mkdir(TEMPLATES, 0o755, dir_fd=directory_fd)
        templates_fd = os.open(TEMPLATES, _DIRECTORY, dir_fd=directory_fd)
        try:
            for name, content in self._templates.items():
                _write(templates_fd, name, content)
        finally:
            os.close(templates_fd)


class _Unified:
    """Of the file that holds everything, the entries of the root file system; `about` takes note of the others.

    For `Tree` it is a TarReader whose archive has the root at its top.
    """

    def __init__(self, reader: TarReader, about: About) -> None:
        self._reader = reader
        self._about = about
        self.has_rootfs = False

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._reader:
            path = in_rootfs(entry.path)
            if path is None:
                self._about.take(entry, parts_of(entry.path), self._reader)
                continue
            if not path and entry.kind != DIRECTORY:
                raise LayerError("The file is no image: its rootfs is no directory")
            self.has_rootfs = True
            if entry.kind == HARDLINK:
                target = in_rootfs(entry.link)
                if target is None:
                    raise LayerError(f"Cannot unpack {show(entry.path)}: it links to {show(entry.link)}")
                entry.link = target
            entry.path = path
            yield entry

    def pieces(self) -> Iterator[memoryview]:
        """The rest of the current entry's data."""
        return self._reader.pieces()


def parts_of(path: bytes) -> list[bytes]:
    """The components of a name of the archive."""
    return [part for part in path.split(b"/") if part and part != b"."]


def in_rootfs(path: bytes) -> bytes | None:
    """What a name of the archive is below rootfs/, or None."""
    if path.startswith(b"./"):
        path = path[2:]
    if path.startswith(b"rootfs/"):
        return path[7:]
    parts = parts_of(path)
    return b"/".join(parts[1:]) if parts[:1] == [b"rootfs"] else None


def content_of(entry: Entry, reader: TarReader, max_bytes: int) -> bytes:
    if entry.kind != REGULAR:
        raise LayerError(f"Unsupported entry in the image: {show(entry.path)} is no plain file")
    if entry.size > max_bytes:
        raise LayerError(f"The image's {show(entry.path)} has {entry.size} bytes, the limit is {max_bytes}")
    return bytes(entry.data) if entry.data is not None else b"".join(reader.pieces())


def _write(directory_fd: int, name: str | bytes, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o644, dir_fd=directory_fd)
    with open(fd, "wb") as file:
        file.write(content)
