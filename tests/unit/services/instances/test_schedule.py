from datetime import datetime, timedelta

import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.services.instances import schedule

BEGIN = datetime(2024, 1, 1)


def minutes(text: str, days: int) -> list[str]:
    """The minutes in so many days that a schedule names."""
    moments = (BEGIN + timedelta(minutes=number) for number in range(days * 24 * 60))
    return [f"{moment:%d %H:%M}" for moment in moments if schedule.due(text, moment)]


def test_times() -> None:
    assert minutes("30 6 * * *", 2) == ["01 06:30", "02 06:30"]
    assert minutes("*/20 5,7 * * *", 1) == ["01 05:00", "01 05:20", "01 05:40", "01 07:00", "01 07:20", "01 07:40"]
    assert minutes("0 10-12/2 * * *", 1) == ["01 10:00", "01 12:00"]
    assert minutes("50/5 0 * * *", 1) == ["01 00:50", "01 00:55"]
    assert minutes("0 0 * feb *", 31) == []
    assert minutes("0 0 * * sun", 9) == minutes("0 0 * * 7", 9) == minutes("0 0 * * 0", 9) == ["07 00:00"]
    assert minutes("0 0 * * Mon-Tue", 8) == ["01 00:00", "02 00:00", "08 00:00"]


def test_day_of_month_or_of_week() -> None:
    assert minutes("0 0 3 * mon", 8) == ["01 00:00", "03 00:00", "08 00:00"]
    assert minutes("0 0 3 * *", 8) == ["03 00:00"]


def test_aliases() -> None:
    assert len(minutes("@hourly", 1)) == 24
    assert minutes("@daily, @weekly", 2) == minutes("@midnight", 2) == ["01 00:00", "02 00:00"]
    assert minutes("@monthly", 31) == minutes("@yearly", 31) == minutes("@annually", 31) == ["01 00:00"]
    for nothing in ("", "@never", "@startup"):
        schedule.check(nothing)
        assert minutes(nothing, 1) == []
    assert schedule.at_startup("@Startup")
    assert schedule.at_startup("@daily, @startup")
    assert not schedule.at_startup("@daily")


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
    ],
)
def test_no_schedule(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Schedule must be of the form"):
        schedule.check(text)


@pytest.mark.parametrize("text", ["@often", "@daily, @often", "@daily, 0 6 * * *"])
def test_no_alias(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="unknown alias"):
        schedule.check(text)
