"""Wait statuses, and the exit file."""

from pathlib import Path

import pytest

from lxdpy.drivers.base import ExitStatus
from lxdpy.drivers.liblxc.container import exit_status, read_exit


@pytest.mark.parametrize(
    ("wait_status", "expected"),
    [
        (0, ExitStatus(0, None)),
        (768, ExitStatus(3, None)),
        (65280, ExitStatus(255, None)),
        (9, ExitStatus(None, 9)),
        (128 + 11, ExitStatus(None, 11)),
        # As liblxc gives it for a killed init.
        (9 << 8 | 0x7F, ExitStatus(None, 9)),
    ],
)
def test_exit_status(wait_status: int, expected: ExitStatus) -> None:
    assert exit_status(wait_status) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"status": "x"}', "\x00\x00"])
def test_damaged_exit_file_is_none(tmp_path: Path, text: str) -> None:
    assert read_exit(str(tmp_path)) is None
    (tmp_path / "exit").write_text(text)
    assert read_exit(str(tmp_path)) is None


def test_exit_file(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text('{"status": 512, "time": 1.5}')
    assert read_exit(str(tmp_path)) == ExitStatus(2, None)
