import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.api.schemas.files import headers, new_file, parse_time, render_time, shown
from lxdpy.drivers.base import FileAttributes, FileKind, FileStatus
from lxdpy.errors import InvalidRequestError


def test_what_is_sent() -> None:
    assert headers(FileStatus("file", 5, 6, 0o4640, 7, 1_700_000_000_120_000_000)) == {
        "X-LXD-uid": "5",
        "X-LXD-gid": "6",
        "X-LXD-mode": "4640",
        "X-LXD-type": "file",
        "X-LXD-modified": "2023-11-14 22:13:20.12 +0000 UTC",
    }
    assert shown("a\udcff") == "a\ufffd"


def test_what_is_asked_for() -> None:
    new = new_file({})
    assert (new.kind, new.append, new.attributes) == (FileKind.FILE, False, FileAttributes())
    new = new_file(
        {
            "x-lxd-type": "directory",
            "x-lxd-write": "append",
            "x-lxd-uid": "-1",
            "x-lxd-gid": "0007",
            "x-lxd-mode": "0100644",
            "x-lxd-modify-perm": "mode, uid",
            "x-lxd-modified": "1970-01-01T00:00:01.5Z",
        }
    )
    assert (new.kind, new.append) == (FileKind.DIRECTORY, True)
    assert new.attributes == FileAttributes(None, 7, 0o644, frozenset(("mode", "uid")), 1_500_000_000)


@pytest.mark.parametrize(
    "bad",
    [
        {"x-lxd-type": "door"},
        {"x-lxd-write": "never"},
        {"x-lxd-uid": "root"},
        {"x-lxd-uid": "4294967295"},
        {"x-lxd-gid": "1" * 5000},
        {"x-lxd-gid": "1_0"},
        {"x-lxd-mode": "888"},
        {"x-lxd-mode": "7777777"},
        {"x-lxd-modify-perm": "mode,time"},
        {"x-lxd-modified": "yesterday"},
        {"x-lxd-modified": "2023-02-30 00:00:00 +0000 UTC"},
        {"x-lxd-modified": "2023-02-20 00:00:00 +0100 CET"},
    ],
)
def test_what_can_not_be(bad: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        new_file(bad)


@given(st.integers(-(62135596800 * 10**9), 253402300799 * 10**9))
def test_times(nanoseconds: int) -> None:
    assert parse_time(render_time(nanoseconds)) == nanoseconds


def test_times_that_no_calendar_has() -> None:
    assert render_time(2**63 * 10**6).startswith("9999-12-31 ")
    assert render_time(-(2**63) * 10**6).endswith(" +0000 UTC")
