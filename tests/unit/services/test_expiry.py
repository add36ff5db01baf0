from datetime import UTC, datetime

import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.services import expiry

TAKEN = datetime(2024, 1, 31, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30M", datetime(2024, 1, 31, 13, 0, tzinfo=UTC)),
        ("12H", datetime(2024, 2, 1, 0, 30, tzinfo=UTC)),
        ("1d", datetime(2024, 2, 1, 12, 30, tzinfo=UTC)),
        ("2w", datetime(2024, 2, 14, 12, 30, tzinfo=UTC)),
        # February has 29 days in that year.
        ("1m", datetime(2024, 3, 2, 12, 30, tzinfo=UTC)),
        ("11m", datetime(2024, 12, 31, 12, 30, tzinfo=UTC)),
        ("12m", datetime(2025, 1, 31, 12, 30, tzinfo=UTC)),
        ("2y", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("1d 1H  1M", datetime(2024, 2, 1, 13, 31, tzinfo=UTC)),
    ],
)
def test_when_it_expires(text: str, expected: datetime) -> None:
    assert expiry.expires_at(text, TAKEN.timestamp()) == expected.timestamp()


def test_never() -> None:
    assert expiry.expires_at("", 1.0) == 0.0


@pytest.mark.parametrize("text", ["1", "d", "1D", "1s", "-1d", "1d2H", "soon", "9999999d", "9999y", "999999m"])
def test_no_expression(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid expiry expression"):
        expiry.check_expression(text)


@pytest.mark.parametrize(
    ("pattern", "taken", "expected"),
    [
        ("", [], "snap0"),
        ("", ["snap0", "other", "snap5", "snap5x"], "snap6"),
        ("a%db", ["a3b", "a9"], "a4b"),
        ("fixed", [], "fixed"),
        ("fixed", ["fixed"], "fixed-0"),
        ("fixed", ["fixed", "fixed-0"], "fixed-1"),
        ("{{ creation_date }}", [], "2024-01-31_12-30-00"),
        ("at-{{creation_date|date:'20060102-1504'}}", [], "at-20240131-1230"),
        ('{{ creation_date | date: "Jan 02" }}-%d', ["Jan 31-0"], "Jan 31-1"),
    ],
)
def test_names(pattern: str, taken: list[str], expected: str) -> None:
    assert expiry.next_name(pattern, taken, TAKEN.timestamp()) == expected


@pytest.mark.parametrize(
    "pattern", ["%d-%d", "{{ name }}", "{% if x %}", "a b", "a/%d", "{{ creation_date|date:'15:04 MST' }}"]
)
def test_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidRequestError):
        expiry.check_pattern(pattern)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a?", "a&b", "a\0", "a\n", "x" * 256])
def test_no_name(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid snapshot name"):
        expiry.check_name(name)


def test_name() -> None:
    expiry.check_name("2024-01-31T12:30:00Z_ä%")
