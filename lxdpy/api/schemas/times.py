"""Times on the wire: RFC 3339, UTC."""

from datetime import UTC, datetime

NEVER = "1970-01-01T00:00:00Z"
"""How LXD says that something was never used."""
ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time, for what has no time."""


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
