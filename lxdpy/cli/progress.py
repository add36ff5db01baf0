"""Progress of a pull on stderr: a bar per layer on a terminal, else a line per change."""

import sys
from types import TracebackType
from typing import Protocol

from lxdpy.cli.output import note, printable, size
from lxdpy.client.records import OperationRecord


class ProgressView(Protocol):
    """Shows the states of one operation; a context manager."""

    def update(self, record: OperationRecord) -> None:
        """Show this state."""

    def __enter__(self) -> "ProgressView": ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def progress_view() -> ProgressView:
    """The view that fits stderr."""
    if not sys.stderr.isatty():
        return LineView()
    from lxdpy.cli.bars import BarView

    return BarView()


class LineView:
    """One line for each layer's change of state, without a layer only the server's text."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def update(self, record: OperationRecord) -> None:
        """Print what changed."""
        for layer in record.layers:
            self._say(layer.digest, layer.state, f"{short(layer.digest)}: {layer.state} ({size(layer.size)})")
        if not record.layers and record.progress:
            self._say("", record.progress, record.progress)

    def _say(self, key: str, state: str, text: str) -> None:
        if self._seen.get(key) != state:
            self._seen[key] = state
            note(text)

    def __enter__(self) -> "LineView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


def short(digest: str) -> str:
    """The first 12 hex digits of a digest or fingerprint."""
    return printable(digest.removeprefix("sha256:")[:12])
