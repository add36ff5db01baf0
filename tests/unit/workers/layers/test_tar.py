"""Headers of every flavour, and nonsense in each of their fields."""

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.errors import LayerError
from lxdpy.workers.layers.tar import MAX_EXTENDED_BYTES, TarReader
from tests.fakes.tars import BLOCK, MTIME, Tar, header, padded, pax_record


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, chunk: int = 1 << 20) -> list[dict[str, object]]:
    """Every entry with its content."""
    reader = TarReader(chunked(data, chunk))
    found = []
    for entry in reader:
        content = bytes(entry.data) if entry.data is not None else b"".join(bytes(part) for part in reader.pieces())
        found.append(
            {
                "path": entry.path,
                "kind": entry.kind,
                "mode": entry.mode,
                "owner": (entry.uid, entry.gid),
                "size": entry.size,
                "mtime_ns": entry.mtime_ns,
                "link": entry.link,
                "xattrs": list(entry.xattrs),
                "content": content,
            }
        )
    reader.drain()
    return found


def one(data: bytes) -> dict[str, object]:
    (entry,) = read(data)
    return entry


@pytest.mark.parametrize("chunk", [1, 7, 511, 512, 513, 4096, 1 << 20])
def test_entries_whatever_the_chunks(chunk: int) -> None:
    tar = Tar().directory("./").directory("./etc/").file("./etc/hosts", b"h" * 1000, mode=0o640, uid=1, gid=2)
    tar.symlink("lib", "usr/lib").hardlink("etc/hosts2", "etc/hosts").file("empty").file("last", b"x" * 512)
    entries = read(tar.bytes(), chunk)
    assert [entry["path"] for entry in entries] == [
        b"./", b"./etc/", b"./etc/hosts", b"lib", b"etc/hosts2", b"empty", b"last",
    ]  # fmt: skip
    assert [entry["kind"] for entry in entries] == [b"5", b"5", b"0", b"2", b"1", b"0", b"0"]
    hosts = entries[2]
    assert (hosts["mode"], hosts["owner"], hosts["size"]) == (0o640, (1, 2), 1000)
    assert hosts["content"] == b"h" * 1000
    assert hosts["mtime_ns"] == MTIME * 10**9
    assert entries[3]["link"] == b"usr/lib"
    assert entries[6]["content"] == b"x" * 512


@pytest.mark.parametrize("flavour", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(flavour: int) -> None:
    name = "d" * 90 + "/" + "n" * 95
    target = "t" * 90
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=flavour) as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.mtime = 5, 0o4755, 1000, MTIME
        tar.addfile(info, io.BytesIO(b"hello"))
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, target
        tar.addfile(info)
    first, second = read(buffer.getvalue())
    assert first["path"] == name.encode()
    assert (first["mode"], first["owner"], first["content"]) == (0o4755, (1000, 0), b"hello")
    assert second["link"] == target.encode()


@pytest.mark.parametrize("flavour", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(flavour: int) -> None:
    name, target = "a/" * 300 + "end", "b" * 500
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=flavour) as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.LNKTYPE, target
        tar.addfile(info)
    entry = one(buffer.getvalue())
    assert (entry["path"], entry["link"]) == (name.encode(), target.encode())


def test_ustar_prefix_and_its_gnu_namesake() -> None:
    assert one(header(b"name", prefix=b"some/where") + bytes(1024))["path"] == b"some/where/name"
    # In GNU's headers that field holds times.
    assert one(header(b"name", magic=b"ustar  \0", prefix=b"14000000000") + bytes(1024))["path"] == b"name"


def test_names_of_full_length_have_no_nul() -> None:
    assert one(header(b"n" * 100, b"2", link=b"l" * 100) + bytes(1024))["path"] == b"n" * 100


def test_v7_directory_by_its_slash() -> None:
    entries = read(header(b"d/", b"\0", magic=b"") + header(b"f", b"\0", magic=b"") + bytes(1024))
    assert [entry["kind"] for entry in entries] == [b"5", b"0"]


def test_contiguous_file_is_a_file() -> None:
    assert one(Tar().add("c", b"7", b"data").bytes())["content"] == b"data"


def test_size_of_what_has_no_data_is_ignored() -> None:
    tar = Tar().directory("d", size=4096).symlink("s", "t", size=512).file("after", b"x")
    assert [entry["path"] for entry in read(tar.bytes())] == [b"d", b"s", b"after"]


@pytest.mark.parametrize("uid", [0, 2**21 - 1, 2**21, 2**32 - 2, 2**40, -5])
def test_base_256(uid: int) -> None:
    assert one(Tar().file("f", uid=uid).bytes())["owner"] == (uid, 0)


def test_base_256_size_and_mtime() -> None:
    block = header(b"f", size=8**11 + 3, mtime=-7)
    entry = next(iter(TarReader([block])))
    assert (entry.size, entry.mtime_ns) == (8**11 + 3, -7 * 10**9)


def test_pax_overrides_the_header() -> None:
    records = {
        "path": "über/long",
        "uid": "4000000000",
        "gid": "7",
        "mtime": "1700000000.123456789",
        "size": "3",
        "SCHILY.xattr.user.a": b"\0\n=binary",
        "SCHILY.xattr.security.capability": b"cap",
        "LIBARCHIVE.xattr.user.b": "aWdub3JlZA",
        "comment": "ignored",
    }
    entry = one(Tar().file("short", b"abc", size=0, pax=records).bytes())
    assert entry["path"] == "über/long".encode()
    assert entry["owner"] == (4_000_000_000, 7)
    assert entry["mtime_ns"] == 1_700_000_000_123_456_789
    assert entry["content"] == b"abc"
    assert entry["xattrs"] == [(b"user.a", b"\0\n=binary"), (b"security.capability", b"cap")]


def test_pax_is_for_one_entry_only() -> None:
    entries = read(Tar().file("a", pax={"uid": "5", "SCHILY.xattr.user.x": "y"}).file("b").bytes())
    assert [entry["owner"] for entry in entries] == [(5, 0), (0, 0)]
    assert entries[1]["xattrs"] == []


def test_pax_empty_value_unsets() -> None:
    assert one(Tar().file("kept", pax={"path": ""}).bytes())["path"] == b"kept"


@pytest.mark.parametrize(
    ("text", "expected"), [("-1.5", -1_500_000_000), ("3", 3 * 10**9), ("0.1234567891", 123456789)]
)
def test_pax_times(text: str, expected: int) -> None:
    assert one(Tar().file("f", pax={"mtime": text}).bytes())["mtime_ns"] == expected


def test_global_pax_header_and_volume_label_are_ignored() -> None:
    records = pax_record(b"path", b"global") + pax_record(b"uid", b"9")
    stream = header(b"g", b"g", size=len(records)) + padded(records)
    stream += header(b"label", b"V") + header(b"f") + bytes(1024)
    entry = one(stream)
    assert (entry["path"], entry["owner"]) == (b"f", (0, 0))


def test_signed_checksum() -> None:
    block = bytearray(header("ü".encode()))
    unsigned = int(block[148:154], 8)
    block[148:156] = b"%06o\0 " % (unsigned - 2 * 256)
    assert one(bytes(block) + bytes(1024))["path"] == "ü".encode()


def test_content_that_is_left_is_skipped() -> None:
    data = Tar().file("a", b"x" * 5000).file("b", b"y").bytes()
    for chunk in (100, 512, 1 << 20):
        assert [entry.path for entry in TarReader(chunked(data, chunk))] == [b"a", b"b"]


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10240), bytes(1024) + b"junk after the end"])
def test_ends(end: bytes) -> None:
    assert one(header(b"f") + end)["path"] == b"f"
    assert read(end) == []


def test_drain_reads_to_the_end() -> None:
    chunks = chunked(bytes(1024) + b"x" * 100_000, 1000)
    reader = TarReader(chunks)
    assert list(reader) == []
    reader.drain()
    assert next(chunks, None) is None


def _changed(offset: int, value: bytes) -> bytes:
    """A header with one field replaced and the checksum mended."""
    block = bytearray(header(b"f"))
    block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x01" * 512,
        b"garbage" * 200,
        header(b"f")[:-1] + b"x" + bytes(1024),
        header(b"f", size=100) + b"short",
        header(b"f", size=-1),
        header(b"f")[:300],
        bytes(512) + header(b"f"),
        _changed(100, b"00008\0"),
        _changed(108, b"12x4567\0"),
        _changed(124, b"-0000000001\0"),
        _changed(124, b"0_1"),
        _changed(136, b"nonsense"),
        header(b"f", b"S") + bytes(1024),
        header(b"f", b"M") + bytes(1024),
        header(b"f", b"Z") + bytes(1024),
        header(b"x", b"x", size=MAX_EXTENDED_BYTES + 1),
        header(b"L", b"L", size=2**40),
        header(b"x", b"x", size=-4),
        header(b"x", b"x", size=6) + padded(b"6 a=b\n"),
        header(b"x", b"x", size=6) + padded(b"7 a=b\n"),
        header(b"x", b"x", size=6) + padded(b"99 a=b"),
        header(b"x", b"x", size=6) + padded(b"6 a=bc") + header(b"f"),
        header(b"x", b"x", size=6) + padded(b"6 abc\n") + header(b"f"),
        header(b"x", b"x", size=6) + padded(b"x a=b\n") + header(b"f"),
        header(b"x", b"x", size=6) + padded(b"0 a=b\n") + header(b"f"),
        Tar().file("f", pax={"size": "-1"}).bytes(),
        Tar().file("f", pax={"uid": "1e3"}).bytes(),
        Tar().file("f", pax={"mtime": "now"}).bytes(),
        Tar().file("f", pax={"mtime": "1.x"}).bytes(),
        Tar().file("f", pax={"size": "9" * 30}).bytes(),
        Tar().file("f", pax={"GNU.sparse.major": "1"}).bytes(),
        Tar().file("f", pax={"a\0b": "1"}).bytes(),
    ],
)
def test_nonsense(stream: bytes) -> None:
    with pytest.raises(LayerError):
        read(stream)


@given(st.binary(max_size=2048), st.integers(1, 600))
def test_random_bytes_raise_nothing_else(data: bytes, chunk: int) -> None:
    try:
        read(data, chunk)
    except LayerError:
        pass


@given(st.integers(0, 511), st.binary(min_size=1, max_size=24), st.booleans())
def test_damaged_headers_raise_nothing_else(offset: int, value: bytes, mend: bool) -> None:
    block = bytearray(header(b"some/name", size=10))
    block[offset : offset + len(value)] = value
    block = block[:512]
    if mend:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    try:
        read(bytes(block) + padded(b"0123456789") + bytes(1024))
    except LayerError:
        pass


def test_block_size() -> None:
    assert len(header(b"f")) == BLOCK


def test_a_stream_that_fails_at_the_start_of_a_header_has_failed() -> None:
    def chunks() -> Iterator[bytes]:
        yield Tar().file("a").data
        raise LayerError("the stream is cut off")

    with pytest.raises(LayerError, match="cut off"):
        for _ in TarReader(chunks()):
            pass
