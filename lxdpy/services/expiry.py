"""When snapshots expire, and what those without a name are called: `snapshots.expiry`, `snapshots.pattern`.

snapshots.expiry    how long after it was taken a snapshot is deleted: `1M 2H 3d 4w 5m 6y` (minutes, hours, days,
                    weeks, months, years), added up
snapshots.pattern   name: `%d` is a number that counts up, `{{ creation_date }}` the moment, in Go's layout if one is
                    given: `{{ creation_date|date:'2006-01-02_15-04-05' }}`
"""

import calendar
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from lxdpy.errors import InvalidRequestError

DEFAULT_PATTERN = "snap%d"

_SPAN = re.compile(r"(\d{1,6})([MHdwmy])\Z")
_DATE = re.compile(r"\{\{\s*creation_date\s*(?:\|\s*date:\s*(['\"])(.*?)\1\s*)?\}\}")
_GO_LAYOUT = re.compile(r"2006|January|Jan|Monday|Mon|MST|-0700|01|02|03|04|05|06|15|PM")
_STRFTIME = {
    "2006": "%Y",
    "January": "%B",
    "Jan": "%b",
    "Monday": "%A",
    "Mon": "%a",
    "MST": "%Z",
    "-0700": "%z",
    "01": "%m",
    "02": "%d",
    "03": "%I",
    "04": "%M",
    "05": "%S",
    "06": "%y",
    "15": "%H",
    "PM": "%p",
}
_DEFAULT_LAYOUT = "2006-01-02_15-04-05"
_UNSAFE = re.compile(r"[\s/?&+\0-\x1f\x7f]")


def check_name(name: str) -> None:
    """Refuse what can't be a part of a path in the API. Raises InvalidRequestError."""
    if not name or len(name) > 255 or name in (".", ".."):
        raise InvalidRequestError(f"Invalid snapshot name {name!r:.100}: expected 1 to 255 characters")
    if match := _UNSAFE.search(name):
        raise InvalidRequestError(f'Invalid snapshot name {name!r:.100}: Cannot contain "{match[0]}"')


def check_expression(text: str) -> None:
    """Raises InvalidRequestError for what is no value of `snapshots.expiry`."""
    expires_at(text, datetime.now(UTC).timestamp())


def expires_at(text: str, taken_at: float) -> float:
    """When a snapshot expires that was taken then; 0 is never. Raises InvalidRequestError."""
    if not text.strip():
        return 0.0
    moment = datetime.fromtimestamp(taken_at, UTC)
    try:
        for word in text.split():
            match = _SPAN.match(word)
            if match is None:
                raise InvalidRequestError("Invalid expiry expression")
            moment = _later(moment, int(match[1]), match[2])
    except (OverflowError, ValueError) as exc:
        raise InvalidRequestError(f"Invalid expiry expression: {exc}") from exc
    return moment.timestamp()


def _later(moment: datetime, count: int, unit: str) -> datetime:
    match unit:
        case "M":
            return moment + timedelta(minutes=count)
        case "H":
            return moment + timedelta(hours=count)
        case "d":
            return moment + timedelta(days=count)
        case "w":
            return moment + timedelta(weeks=count)
        case "m":
            months = moment.year * 12 + moment.month - 1 + count
        case _:
            months = (moment.year + count) * 12 + moment.month - 1
    year, month = divmod(months, 12)
    # As Go does: the 31st of a shorter month is in the next one.
    over = max(0, moment.day - calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=moment.day - over) + timedelta(days=over)


def check_pattern(pattern: str) -> None:
    """Raises InvalidRequestError for what is no value of `snapshots.pattern`."""
    check_name(next_name(pattern, (), datetime.now(UTC).timestamp()))


def next_name(pattern: str, taken: Iterable[str], now: float) -> str:
    """A name made after a pattern: with `%d` the number after the highest that is taken. Raises InvalidRequestError."""
    pattern = _dated(pattern or DEFAULT_PATTERN, now)
    if pattern.count("%d") > 1:
        raise InvalidRequestError(f'Invalid snapshot pattern {pattern!r:.100}: more than one "%d"')
    names = set(taken)
    if "%d" not in pattern:
        if pattern not in names:
            return pattern
        pattern += "-%d"
    before, after = pattern.split("%d")
    numbered = re.compile(re.escape(before) + r"(\d{1,9})" + re.escape(after) + r"\Z")
    numbers = [int(match[1]) for name in names if (match := numbered.match(name))]
    return f"{before}{max(numbers, default=-1) + 1}{after}"


def _dated(pattern: str, now: float) -> str:
    moment = datetime.fromtimestamp(now, UTC)

    def render(match: re.Match[str]) -> str:
        layout = (match[2] or _DEFAULT_LAYOUT).replace("%", "%%")
        return moment.strftime(_GO_LAYOUT.sub(lambda part: _STRFTIME[part[0]], layout))

    text = _DATE.sub(render, pattern)
    if "{{" in text or "{%" in text:
        raise InvalidRequestError(f"Invalid snapshot pattern {pattern!r:.100}: only creation_date can be filled in")
    return text
