"""Tar streams byte by byte, also such as no writer would make."""

from collections.abc import Mapping

BLOCK = 512
MTIME = 1_700_000_000


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = MTIME,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\0" + b"00",
    prefix: bytes = b"",
) -> bytes:
    """One header block with the right checksum; numbers that octal can't hold are written in base 256."""
    block = bytearray(BLOCK)

    def put(offset: int, length: int, value: bytes) -> None:
        block[offset : offset + len(value[:length])] = value[:length]

    put(0, 100, name)
    for offset, length, number in (
        (100, 8, mode),
        (108, 8, uid),
        (116, 8, gid),
        (124, 12, size),
        (136, 12, mtime),
        (329, 8, device[0]),
        (337, 8, device[1]),
    ):
        put(offset, length, number_field(number, length))
    put(156, 1, kind)
    put(157, 100, link)
    put(257, 8, magic)
    put(345, 155, prefix)
    block[148:156] = b" " * 8
    put(148, 8, b"%06o\0 " % sum(block))
    return bytes(block)


def number_field(number: int, length: int) -> bytes:
    """A number as octal digits, or in base 256."""
    if 0 <= number < 8 ** (length - 1):
        return b"%0*o\0" % (length - 1, number)
    field = bytearray(number.to_bytes(length, "big", signed=True))
    field[0] |= 0x80
    return bytes(field)


def padded(data: bytes) -> bytes:
    """Data filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def pax_record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


class Tar:
    """A tar stream under construction; every method returns it."""

    def __init__(self) -> None:
        self.data = b""

    def raw(self, data: bytes) -> "Tar":
        """Add bytes as they are."""
        self.data += data
        return self

    def add(
        self,
        name: str | bytes,
        kind: bytes = b"0",
        data: bytes = b"",
        *,
        pax: Mapping[str, str | bytes] | None = None,
        **fields: object,
    ) -> "Tar":
        """Add an entry, after a PAX header if there are records for it."""
        if pax:
            records = b"".join(
                pax_record(key.encode(), value.encode() if isinstance(value, str) else value)
                for key, value in pax.items()
            )
            self.data += header(b"PaxHeaders/x", b"x", size=len(records)) + padded(records)
        encoded = name.encode() if isinstance(name, str) else name
        fields.setdefault("size", len(data))
        self.data += header(encoded, kind, **fields) + padded(data)  # type: ignore[arg-type]
        return self

    def file(self, name: str | bytes, data: bytes = b"", **fields: object) -> "Tar":
        """Add a regular file."""
        return self.add(name, b"0", data, **fields)  # type: ignore[arg-type]

    def directory(self, name: str | bytes, **fields: object) -> "Tar":
        """Add a directory, 0755 unless told otherwise."""
        fields.setdefault("mode", 0o755)
        return self.add(name, b"5", **fields)  # type: ignore[arg-type]

    def symlink(self, name: str | bytes, target: str | bytes, **fields: object) -> "Tar":
        """Add a symlink."""
        return self.add(name, b"2", link=target.encode() if isinstance(target, str) else target, **fields)  # type: ignore[arg-type]

    def hardlink(self, name: str | bytes, target: str | bytes, **fields: object) -> "Tar":
        """Add a hardlink."""
        return self.add(name, b"1", link=target.encode() if isinstance(target, str) else target, **fields)  # type: ignore[arg-type]

    def bytes(self) -> bytes:
        """The stream with its end mark."""
        return self.data + bytes(2 * BLOCK)
