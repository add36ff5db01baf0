"""Times on the wire: RFC 3339, UTC."""

from datetime import UTC, datetime

from lxdpy.errors import InvalidRequestError

NEVER = "1970-01-01T00:00:00Z"
"""How LXD says that something was never used."""
ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time, for what has no time."""


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339, as Go writes it: without zeros at the end of a fraction."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"


def seconds(text: str) -> float:
    """A moment as seconds since the epoch; the zero time, and all that came before the epoch, is 0.

    Raises InvalidRequestError.
    """
    try:
        moment = datetime.fromisoformat(text)
        return max(0.0, moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError) as exc:
        raise InvalidRequestError(f"Invalid time {text!r:.100}: expected RFC 3339") from exc
