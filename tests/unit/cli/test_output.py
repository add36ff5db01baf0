"""How things are shown."""

from datetime import UTC, datetime

import pytest

from lxdpy.cli.output import age, printable, size


def test_control_and_direction_characters_are_escaped() -> None:
    assert printable("a\x1b[31m\n\x9b\u202eb\x7f\udc80") == "a\\x1b[31m\\n\\x9b\\u202eb\\x7f\\udc80"
    assert printable("Größe 10 µs 日本") == "Größe 10 µs 日本"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (3400, "3.4 kB"), (12_345_678, "12.3 MB")])
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        ("2026-01-02T03:04:05.123456789Z", "1 minute"),
        ("2026-01-01T03:05:10Z", "1 day"),
        ("2026-01-02T03:05:05Z", "5 seconds"),
        ("2026-01-02T03:05:09Z", "1 second"),
        ("2026-01-02T03:05:10Z", "0 seconds"),
        ("0001-01-01T00:00:00Z", ""),
        ("1970-01-01T00:00:00Z", ""),
        ("", ""),
    ],
)
def test_age(timestamp: str, text: str) -> None:
    assert age(timestamp, datetime(2026, 1, 2, 3, 5, 10, tzinfo=UTC)) == text
