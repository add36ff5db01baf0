"""The progress of a pull on a terminal."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, Task, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from lxdpy.cli.output import printable
from lxdpy.cli.progress import short
from lxdpy.client.records import OperationRecord


class RateColumn(TransferSpeedColumn):
    """Bytes a second; nothing, where rich says `?`, of a layer that is not transferred."""

    def render(self, task: Task) -> Text:
        """The rate as text."""
        return Text() if task.finished_speed is None and task.speed is None else super().render(task)


class BarView:
    """A rich progress display with a bar, bytes and rate per layer."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            RateColumn(),
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
