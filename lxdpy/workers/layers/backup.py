"""Pack an instance and its snapshots into one file as LXD's `lxc export` does, and unpack such a file; and the same of
a custom volume, as `lxc storage volume export` does.

    backup/index.yaml                                  what there is, and how it is configured
    backup/snapshots/NAME/...                          as below, oldest first
    backup/container/backup.yaml                       of the instance: what the index says of it
                     metadata.yaml  templates/NAME
                     oci.json                          how it runs, when it is an app: an OCI image config
                     rootfs/...

    backup/index.yaml
    backup/volume-snapshots/NAME/...                   of a volume: its files, right there
    backup/volume/...

Unpacked, in DIRECTORY:

    index.yaml   parts/N/fs   parts/N/{metadata.yaml,templates/,oci.json}
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from lxdpy.drivers.overlay.stack import mount_lowers
from lxdpy.drivers.store.messages import BackupContents, BackupPackRequest, BackupUnpackRequest, Packed
from lxdpy.errors import InvalidRequestError, LayerError, RegistryError, UnsupportedError
from lxdpy.workers.layers.compress import Output
from lxdpy.workers.layers.confine import confine
from lxdpy.workers.layers.image import About, ArchiveFile, content_of, parts_of
from lxdpy.workers.layers.pack import NO_LIMIT, Tar, read_templates
from lxdpy.workers.layers.tar import DIRECTORY, HARDLINK, Entry, TarReader, show
from lxdpy.workers.layers.tree import Tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_INDEX_BYTES = 4 << 20
_MAX_PARTS = 1000
INSTANCE = "container"
VOLUME = "volume"


def pack_backup(request: BackupPackRequest, confined: Callable[[], None], progress: Callable[[int], None]) -> Packed:
    """Pack into DIRECTORY/image; `confined` and `progress` as for images. Raises LayerError, OSError."""
    parts = []
    for number, part in enumerate(request.parts):
        scratch = f"{request.directory}/scratch{number}"
        os.mkdir(scratch)
        parts.append((part, mount_lowers(part.lowers, scratch), read_templates(part.templates)))
    path = f"{request.directory}/image"
    out_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    directory_fd = os.open(request.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    confine(directory_fd, NO_LIMIT)
    confined()
    output = Output(out_fd, request.compression, request.level)
    tar = Tar(output.write, progress)
    tar.text("backup/index.yaml", request.index.encode(), request.time)
    for part, root_fd, templates in parts:
        prefix = f"backup/{part.name}/"
        if part.bare:
            tar.tree(prefix, root_fd)
            continue
        tar.directory(prefix, 0o100, request.time)
        for name, text in part.texts:
            tar.text(prefix + name, text.encode(), request.time)
        tar.templates(prefix, templates, request.time)
        tar.tree(f"{prefix}rootfs/", root_fd)
    tar.end()
    return Packed(output.finish(), output.size)


def unpack_backup(request: BackupUnpackRequest, confined: Callable[[], None]) -> BackupContents:
    """Unpack a file that came from anybody into DIRECTORY. Raises LayerError, UnsupportedError, OSError."""
    directory_fd = os.open(request.directory, _DIRECTORY)
    file = ArchiveFile(request.path, request.max_bytes)
    os.mkdir("parts", 0o700, dir_fd=directory_fd)
    confine(directory_fd, request.max_bytes)
    confined()
    contents = _Contents(file.tar(), directory_fd, request.kind)
    parts: dict[str, tuple[int, int]] = {}
    try:
        while (name := contents.next_part()) is not None:
            if name in parts or len(parts) >= _MAX_PARTS:
                raise LayerError(f"The file is no backup: {name!r:.100} comes twice, or there are too many parts")
            parts[name] = _unpack_part(request, directory_fd, contents, len(parts))
        file.drain()
    except (InvalidRequestError, RegistryError) as exc:
        if isinstance(exc, UnsupportedError):
            raise
        raise LayerError(f"The file is no backup: {exc}") from exc
    if not contents.has_index or request.kind not in parts:
        raise LayerError(f"The file is no backup of a {request.kind}: it has no index.yaml, or no files")
    return BackupContents(tuple(parts), tuple(parts.values()))


def _unpack_part(request: BackupUnpackRequest, directory_fd: int, contents: _Contents, number: int) -> tuple[int, int]:
    """Unpack one root file system and what is beside it; how many entries and bytes it has."""
    place = f"parts/{number}"
    os.mkdir(place, 0o700, dir_fd=directory_fd)
    os.mkdir(f"{place}/fs", 0o755, dir_fd=directory_fd)
    root_fd = os.open(f"{place}/fs", _DIRECTORY, dir_fd=directory_fd)
    about = About()
    try:
        unpacked = Tree(root_fd, request.max_entries, whiteouts=False).unpack(contents.part(about))
    finally:
        os.close(root_fd)
    if unpacked.deferred.hardlinks:
        link, target = unpacked.deferred.hardlinks[0]
        raise LayerError(f"Cannot unpack {show(link)}: it links to {show(target)}, which is not in the backup")
    if about.is_there:
        about.check()
        place_fd = os.open(place, _DIRECTORY, dir_fd=directory_fd)
        about.write(place_fd)
        os.close(place_fd)
    return unpacked.entries, unpacked.size_bytes


class _Contents:
    """The archive, one part after the other."""

    def __init__(self, reader: TarReader, directory_fd: int, kind: str) -> None:
        self._reader = reader
        self._kind = kind
        self._entries = iter(reader)
        self._directory_fd = directory_fd
        self._ahead: tuple[str, list[bytes], Entry] | None = None
        self._current = ""
        self.has_index = False

    def next_part(self) -> str | None:
        """The name of the next part: `container`, or `snapshots/NAME`; None at the end."""
        if self._ahead is None:
            self._ahead = self._next()
        self._current = "" if self._ahead is None else self._ahead[0]
        return self._current or None

    def part(self, about: About) -> _Part:
        """The entries of the current part's root file system, or of a volume's files."""
        return _Part(self, about, bare=self._kind == VOLUME)

    def entries(self) -> Iterator[tuple[list[bytes], Entry]]:
        """Every entry of the current part, with its path in there; its data is to be read before the next one."""
        found = self._ahead
        while found is not None and found[0] == self._current:
            yield found[1], found[2]
            found = self._next()
        self._ahead = found

    @property
    def reader(self) -> TarReader:
        """The archive itself."""
        return self._reader

    def _next(self) -> tuple[str, list[bytes], Entry] | None:
        for entry in self._entries:
            match parts_of(entry.path):
                case [b"backup"] | [b"backup", b"snapshots" | b"volume-snapshots"]:
                    continue
                case [b"backup", b"index.yaml"]:
                    self._keep_index(entry)
                case [b"backup", b"container", *rest] if self._kind == INSTANCE:
                    return INSTANCE, rest, entry
                case [b"backup", b"snapshots", name, *rest] if self._kind == INSTANCE:
                    return f"snapshots/{os.fsdecode(name)}", rest, entry
                case [b"backup", b"volume", *rest] if self._kind == VOLUME:
                    return VOLUME, rest, entry
                case [b"backup", b"volume-snapshots", name, *rest] if self._kind == VOLUME:
                    return f"volume-snapshots/{os.fsdecode(name)}", rest, entry
                case [b"backup", b"volume.img" | b"volume-snapshots.img"]:
                    raise UnsupportedError("The backup is of a block volume: only file systems are supported")
                case [b"backup", b"virtual-machine", *_]:
                    raise UnsupportedError("The backup is of a virtual machine: only containers are supported")
                case [b"backup", name, *_] if name.endswith(b".bin"):
                    raise UnsupportedError("The backup is in a storage driver's own format: export it without that")
                case _:
                    raise LayerError(f"The file is no backup of a {self._kind}: it has {show(entry.path)}")
        return None

    def _keep_index(self, entry: Entry) -> None:
        if self.has_index:
            raise LayerError("The file is no backup: it has two index.yaml")
        self.has_index = True
        content = content_of(entry, self._reader, _MAX_INDEX_BYTES)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open("index.yaml", flags, 0o600, dir_fd=self._directory_fd), "wb") as file:
            file.write(content)


class _Part:
    """Entries of a root file system, as `Tree` wants them: with the root at the top."""

    def __init__(self, contents: _Contents, about: About, *, bare: bool) -> None:
        self._contents = contents
        self._about = about
        self._below = [] if bare else [b"rootfs"]

    def __iter__(self) -> Iterator[Entry]:
        for parts, entry in self._contents.entries():
            depth = len(self._below)
            if parts[:depth] != self._below:
                # Not what LXD writes there for itself.
                if parts and parts != [b"backup.yaml"]:
                    self._about.take(entry, parts, self._contents.reader)
                continue
            if len(parts) == depth and entry.kind != DIRECTORY:
                raise LayerError("The file is no backup: a rootfs is no directory")
            if entry.kind == HARDLINK:
                entry.link = self._target(entry, len(parts_of(entry.path)) - len(parts) + depth)
            entry.path = b"/".join(parts[depth:])
            yield entry

    def pieces(self) -> Iterator[memoryview]:
        """The rest of the current entry's data."""
        return self._contents.reader.pieces()

    def _target(self, entry: Entry, depth: int) -> bytes:
        """Where a hardlink leads, which is in the same tree, whose own name in the archive has `depth` parts."""
        here, there = parts_of(entry.path), parts_of(entry.link)
        if there[:depth] != here[:depth] or len(there) == depth:
            raise LayerError(f"Cannot unpack {show(entry.path)}: it links to {show(entry.link)}")
        return b"/".join(there[depth:])
