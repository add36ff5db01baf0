"""When snapshots are taken by themselves: `snapshots.schedule`.

MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK      as crontab(5), in the host's time: `0 6 * * *`, `*/15 8-18 * * mon-fri`
@hourly @daily @midnight @weekly @monthly @annually @yearly     several of them, separated by commas
@never                                          not at all, whatever a profile says
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lxdpy.errors import InvalidRequestError

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@annually": "0 0 1 1 *",
    "@yearly": "0 0 1 1 *",
}
_STARTUP = "@startup"
_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAYS = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}
_FORM = "Schedule must be of the form: <minute> <hour> <day-of-month> <month> <day-of-week>"
_SUNDAY = 7


@dataclass(frozen=True, slots=True)
class _Times:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Days of the month are not restricted, or those of the week are not: then both must fit, else one is enough."""

    def due(self, moment: datetime) -> bool:
        day = moment.day in self.days
        weekday = moment.isoweekday() % _SUNDAY in self.weekdays
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and moment.month in self.months
            and ((day and weekday) if self.any_day else (day or weekday))
        )


def check(text: str) -> None:
    """Raises InvalidRequestError for what is no value of `snapshots.schedule`."""
    _parse(text)


def due(text: str, moment: datetime) -> bool:
    """Whether a schedule names this minute. Raises InvalidRequestError."""
    return any(times.due(moment) for times in _parse(text))


def at_startup(text: str) -> bool:
    """Whether a schedule wants a snapshot when the instance is started."""
    return _STARTUP in [word.strip() for word in text.lower().split(",")]


def _parse(text: str) -> Sequence[_Times]:
    text = text.strip().lower()
    if not text or text == "@never":
        return ()
    if not text.startswith("@"):
        return (_cron(text),)
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in _ALIASES and word != _STARTUP]:
        raise InvalidRequestError(f"unknown alias {unknown[0]!r:.50}")
    return tuple(_cron(_ALIASES[word]) for word in words if word != _STARTUP)


def _cron(text: str) -> _Times:
    fields = text.split()
    if len(fields) != 5:
        raise InvalidRequestError(_FORM)
    minute, hour, day, month, weekday = fields
    return _Times(
        _numbers(minute, 0, 59),
        _numbers(hour, 0, 23),
        _numbers(day, 1, 31),
        _numbers(month, 1, 12, _MONTHS),
        frozenset(number % _SUNDAY for number in _numbers(weekday, 0, _SUNDAY, _DAYS)),
        any_day=day.startswith("*") or weekday.startswith("*"),
    )


def _numbers(field: str, first: int, last: int, names: Mapping[str, int] | None = None) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        begin, dash, end = span.partition("-")
        try:
            if span == "*":
                low, high = first, last
            else:
                low = _number(begin, names)
                high = _number(end, names) if dash else last if step else low
            stride = int(step) if step else 1
        except ValueError:
            raise InvalidRequestError(_FORM) from None
        if not first <= low <= high <= last or stride < 1:
            raise InvalidRequestError(_FORM)
        found.update(range(low, high + 1, stride))
    return frozenset(found)


def _number(text: str, names: Mapping[str, int] | None) -> int:
    return names[text] if names and text in names else int(text)
