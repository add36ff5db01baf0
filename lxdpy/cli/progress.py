"""Progress of a pull on stderr: a bar per layer on a terminal, else a line per change."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from lxdpy.cli.output import note, printable, size
from lxdpy.client.records import OperationRecord

if TYPE_CHECKING:
    from rich.progress import TaskID


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
    return BarView() if sys.stderr.isatty() else LineView()


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


class BarView:
    """A rich progress display with a bar, bytes and rate per layer."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def update(self, record: OperationRecord) -> None:
        """Move the bars."""
        for layer in record.layers:
            task = self._tasks.get(layer.digest)
            if task is None:
                task = self._progress.add_task(short(layer.digest), total=layer.size or None, state="")
                self._tasks[layer.digest] = task
            done = layer.size if layer.state in ("done", "exists") else layer.done
            self._progress.update(task, completed=done, total=layer.size or None, state=printable(layer.state))

    def __enter__(self) -> "BarView":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


def short(digest: str) -> str:
    """The first 12 hex digits of a digest or fingerprint."""
    return printable(digest.removeprefix("sha256:")[:12])
