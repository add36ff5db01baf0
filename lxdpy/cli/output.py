"""Showing things: tables, JSON, sizes and ages. Text that an image or a container chose is made harmless here."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum


class Format(StrEnum):
    """What commands that show things print."""

    TABLE = "table"
    JSON = "json"


def printable(text: object) -> str:
    """`text` with control, format and surrogate characters escaped: they could rewrite the terminal."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char
        for char in str(text)
    )


def error(message: str, hint: str = "") -> None:
    """Tell what went wrong, and on a line of its own what may help, on stderr."""
    note(f"Error: {message}")
    if hint:
        note(hint)


def line(text: str) -> None:
    """One line on stdout."""
    print(printable(text))  # noqa: T201


def note(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


def show_json(value: object) -> None:
    """Indented JSON on stdout; JSON escapes control characters itself."""
    print(json.dumps(value, indent=2))  # noqa: T201


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """An aligned table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    # A pipe has no width: never cut what a script will read.
    Console(width=None if sys.stdout.isatty() else 1 << 14).print(table, soft_wrap=not sys.stdout.isatty())


def show_fields(fields: Iterable[tuple[str, object]]) -> None:
    """`Key: value` lines; empty values are left out."""
    for key, value in fields:
        if value not in ("", None, (), []):
            line(f"{key}: {value}")


def size(count: int) -> str:
    """Bytes as people read them: 3.4 MB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def age(timestamp: str, now: datetime | None = None) -> str:
    """How long ago, roughly: `5 minutes`; empty for LXD's zero times and what is no time."""
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return ""
    if then.year <= 1970:
        return ""
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    length, name = next(
        (unit for unit in ((86400, "day"), (3600, "hour"), (60, "minute")) if seconds >= unit[0]), (1, "second")
    )
    count = seconds // length
    return f"{count} {name}{'' if count == 1 else 's'}"
