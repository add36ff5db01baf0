"""Read a tar stream: headers of every flavour that images have, names as bytes, nothing trusted.

    chunks ──> [512-byte header][data, padded to 512] ... [zero block][zero block][anything, ignored]

Understood: v7, ustar with prefix, GNU long names (L, K) and base-256 numbers, PAX extended headers (x; global ones are
ignored). Sparse files are refused: what they unpack to has no relation to what was sent. Speed matters here: a layer
has tens of thousands of headers, so what most entries have in common is parsed once and looked up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from isal.isal_zlib import adler32

from lxdpy.errors import LayerError

BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 20
"""Size of a PAX header or of a GNU long name."""

REGULAR, HARDLINK, SYMLINK, CHAR_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_XATTR_PREFIX = b"SCHILY.xattr."
# name, mode + uid + gid, size, mtime, checksum, type, linkname, magic, (version, owner's names), device, prefix
_HEADER = struct.Struct("100s24s12s12s8sc100s6s66x16s155s12x")
_ZERO_BLOCK = bytes(BLOCK)
_ADLER_BASE = 65521
# Headers of these types have no data, whatever their size says.
_WITHOUT_DATA = frozenset((HARDLINK, SYMLINK, CHAR_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO))
_DEVICES = frozenset((CHAR_DEVICE, BLOCK_DEVICE))
# Contiguous files, and v7's NUL, are regular files.
_AS_REGULAR = frozenset((b"\0", b"7"))
_VOLUME_LABEL = b"V"


class Entry:
    """One entry of the stream; the reader uses the same object again for the next."""

    __slots__ = ("data", "device", "gid", "kind", "link", "mode", "mtime_ns", "path", "size", "uid", "xattrs")

    path: bytes
    """As in the archive: `./usr/bin/env`, `etc/`."""
    kind: bytes
    """REGULAR ... FIFO."""
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    """Target of a link."""
    device: tuple[int, int]
    xattrs: list[tuple[bytes, bytes]]
    data: memoryview | None
    """A regular file's content, when it is at hand in one piece; otherwise `TarReader.pieces` gives it."""


class TarReader:
    """Iterate over the entries of a stream that comes in chunks of any size. Raises LayerError for nonsense."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._view = memoryview(b"")
        self._position = 0
        self._left = 0
        """Bytes of the current entry's data not yet read."""
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Entries in order; what the caller left of an entry's data is skipped. Ends at the end mark."""
        owners: dict[bytes, tuple[int, int, int]] = {}
        unpack, checksum = _HEADER.unpack_from, adler32
        entry = Entry()
        no_xattrs: list[tuple[bytes, bytes]] = []
        pax: dict[bytes, bytes] = {}
        xattrs = no_xattrs
        long_path = long_link = None
        while True:
            if self._left or self._padding:
                self._skip(self._left + self._padding)
            position = self._position
            if len(self._buffer) - position >= BLOCK:
                block, view = self._buffer, self._view
                self._position = position + BLOCK
            else:
                block = self._take(BLOCK, end_allowed=True)
                if not block:
                    if pax or long_path is not None or long_link is not None:
                        raise LayerError("Malformed tar stream: it ends after an extended header")
                    return
                position, view = 0, memoryview(block)
            name, owner, size_field, mtime_field, checksum_field, kind, link, magic, device, prefix = unpack(
                block, position
            )
            # The sum of all bytes is adler32's low half less one: a loop in C.
            total = (checksum(view[position : position + BLOCK]) & 0xFFFF) - 1 - sum(checksum_field) + 8 * 32
            if (total - _octal(checksum_field, "checksum")) % _ADLER_BASE and self._is_end(
                block[position : position + BLOCK], checksum_field
            ):
                return
            size = _number(size_field, "size")

            if kind in b"xgLK":
                body = self._extended(size)
                if kind == b"x":
                    pax = _parse_pax(body)
                elif kind == b"L":
                    long_path = body.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = body.partition(b"\0")[0]
                continue

            path = name.partition(b"\0")[0]
            if prefix[0] and magic == b"ustar\0":
                path = prefix.partition(b"\0")[0] + b"/" + path
            entry.link = link.partition(b"\0")[0] if link[0] else b""
            numbers = owners.get(owner)
            if numbers is None:
                mode = _number(owner[:8], "mode") & 0o7777
                numbers = owners[owner] = mode, _number(owner[8:16], "uid"), _number(owner[16:], "gid")
            entry.mode, entry.uid, entry.gid = numbers
            entry.mtime_ns = _number(mtime_field, "mtime") * 1_000_000_000
            if pax:
                path = pax.get(b"path") or path
                entry.link = pax.get(b"linkpath") or entry.link
                size = _decimal(pax, b"size", size)
                entry.uid = _decimal(pax, b"uid", entry.uid)
                entry.gid = _decimal(pax, b"gid", entry.gid)
                if mtime := pax.get(b"mtime"):
                    entry.mtime_ns = _nanoseconds(mtime)
                xattrs = [
                    (key[len(_XATTR_PREFIX) :], value) for key, value in pax.items() if key.startswith(_XATTR_PREFIX)
                ]
                pax = {}
            if long_path is not None:
                path, long_path = long_path, None
            if long_link is not None:
                entry.link, long_link = long_link, None
            if size < 0:
                raise LayerError(f"Malformed tar stream: {show(path)} has a negative size")

            if kind in _AS_REGULAR:
                kind = DIRECTORY if kind == b"\0" and path.endswith(b"/") else REGULAR
            if kind in _WITHOUT_DATA:
                if kind in _DEVICES:
                    entry.device = _number(device[:8], "device"), _number(device[8:], "device")
                size = 0
            elif kind != REGULAR:
                if kind == _VOLUME_LABEL:
                    self._left, self._padding = size, -size % BLOCK
                    xattrs = no_xattrs
                    continue
                what = "is a sparse file" if kind == b"S" else f"is of type {show(kind)}"
                raise LayerError(f"Unsupported tar entry: {show(path)} {what}")
            entry.path, entry.kind, entry.size, entry.xattrs = path, kind, size, xattrs
            xattrs = no_xattrs

            position = self._position
            if size <= len(self._buffer) - position:
                entry.data = self._view[position : position + size]
                self._position = position + size
                self._left = 0
            else:
                entry.data = None
                self._left = size
            self._padding = -size % BLOCK
            yield entry

    def pieces(self) -> Iterator[memoryview]:
        """The rest of the current entry's data."""
        while self._left:
            position = self._position
            if position == len(self._buffer):
                self._next_chunk("in a file")
                position = 0
            piece = self._view[position : position + self._left]
            self._position = position + len(piece)
            self._left -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read what follows the end mark: it counts for the stream's digest."""
        for _ in self._chunks:
            pass

    def _is_end(self, block: bytes, checksum_field: bytes) -> bool:
        """Whether `block`, whose unsigned checksum is wrong, ends the archive; False when its signed one is right."""
        if block == _ZERO_BLOCK:
            second = self._take(BLOCK, end_allowed=True)
            if second and second != _ZERO_BLOCK:
                raise LayerError("Malformed tar stream: a header follows half an end mark")
            return True
        # Some writers of old summed signed characters.
        covered = block[:148] + b" " * 8 + block[156:]
        if sum(byte - 256 if byte > 127 else byte for byte in covered) != _octal(checksum_field, "checksum"):
            raise LayerError("Malformed tar stream: a header's checksum is wrong (no tar archive, or damaged)")
        return False

    def _next_chunk(self, where: str) -> None:
        if not self._has_next_chunk():
            raise LayerError(f"Malformed tar stream: it ends {where}")

    def _has_next_chunk(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._buffer, self._view, self._position = chunk, memoryview(chunk), 0
                return True
        return False

    def _take(self, count: int, *, end_allowed: bool = False) -> bytes:
        """The next `count` bytes; none at all at the stream's end, if that is allowed."""
        parts: list[bytes] = []
        missing = count
        while missing:
            part = self._buffer[self._position : self._position + missing]
            if not part:
                if not self._has_next_chunk():
                    if end_allowed and not parts:
                        return b""
                    raise LayerError("Malformed tar stream: it ends in a header (no tar archive, or cut off)")
                continue
            self._position += len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        self._left = self._padding = 0
        while count > (ahead := len(self._buffer) - self._position):
            count -= ahead
            self._next_chunk("in a file")
        self._position += count

    def _extended(self, size: int) -> bytes:
        if not 0 <= size <= MAX_EXTENDED_BYTES:
            raise LayerError(f"Malformed tar stream: an extended header of {size} bytes, the limit is 1 MiB")
        body = self._take(size)
        self._padding = -size % BLOCK
        return body


def show(path: bytes) -> str:
    """A name of the archive for messages: quoted, short, without control characters."""
    text = repr(path)[1:]
    return text if len(text) <= 200 else f"{text[:190]}...{text[-1]}"


def _octal(field: bytes, what: str) -> int:
    """An octal number, padded with spaces and NULs."""
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError as exc:
            raise LayerError(f"Malformed tar stream: {what} is {show(field)}") from exc
    if digits:
        raise LayerError(f"Malformed tar stream: {what} is {show(field)}")
    return 0


def _number(field: bytes, what: str) -> int:
    """An octal or GNU base-256 number."""
    if field[0] < 0x80:
        return _octal(field, what)
    # Two's complement of all bits but the mark.
    value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value


def _parse_pax(body: bytes) -> dict[bytes, bytes]:
    """The records `LENGTH KEY=VALUE\\n` of an extended header; an empty value unsets its key."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        digits = body[position : position + 9].partition(b" ")[0]
        if not digits.isdigit():
            raise LayerError("Malformed tar stream: a PAX record has no length")
        end = position + int(digits)
        key, equals, value = body[position + len(digits) + 1 : end - 1].partition(b"=")
        if end > len(body) or body[end - 1 : end] != b"\n" or not key or not equals or b"\0" in key:
            raise LayerError(f"Malformed tar stream: PAX record {show(body[position:end])}")
        if key.startswith(b"GNU.sparse."):
            raise LayerError("Unsupported tar entry: a sparse file")
        if value:
            records[key] = value
        else:
            records.pop(key, None)
        position = end
    return records


def _decimal(records: dict[bytes, bytes], key: bytes, default: int) -> int:
    value = records.get(key)
    if value is None:
        return default
    if not value.removeprefix(b"-").isdigit() or len(value) > 20:
        raise LayerError(f"Malformed tar stream: PAX {key.decode()} is {show(value)}")
    return int(value)


def _nanoseconds(text: bytes) -> int:
    """Seconds with a fraction, maybe negative."""
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 20 or (fraction and not fraction.isdigit()):
        raise LayerError(f"Malformed tar stream: PAX mtime is {show(text)}")
    value = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -value if text.startswith(b"-") else value
