"""Starts background work, and holds it until a while after its end: no task is ever lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from lxdpy.errors import InvalidRequestError, LxdpyError, NotFoundError, ShuttingDownError
from lxdpy.operations.events import Events, EventType, current_project, timestamp
from lxdpy.operations.operation import Operation
from lxdpy.operations.progress import OperationProgress
from lxdpy.operations.status import Status
from lxdpy.websocket import Sockets

logger = logging.getLogger(__name__)

KEEP_S = 5.0
"""How long clients can still read an operation that has ended."""

Run = Callable[[OperationProgress], Awaitable[Mapping[str, object] | None]]
"""A job: gets where to report to, returns metadata to merge."""


class Operations:
    """Every operation of this daemon."""

    def __init__(self, events: Events, *, error_code: Callable[[LxdpyError], int]) -> None:
        """`error_code` gives the HTTP status that a failure would have had as the answer of a request."""
        self._events = events
        self._error_code = error_code
        self._operations: dict[str, Operation] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._draining = False

    def start(
        self,
        description: str,
        run: Run,
        *,
        resources: Mapping[str, Sequence[str]],
        metadata: Mapping[str, object] | None = None,
        cancellable: bool = False,
        project: str | None = None,
        sockets: Sockets | None = None,
    ) -> Operation:
        """Run `run` in the background; with `sockets` it is a websocket operation.

        It belongs to `project`, or to the project of the request that it is started for.

        Raises ShuttingDownError once `drain` has been called.
        """
        if self._draining:
            raise ShuttingDownError(f"Cannot start operation ({description}): the daemon is shutting down")
        operation = Operation(
            description,
            resources,
            dict(metadata) if metadata else None,
            cancellable,
            project or current_project.get(),
            sockets,
        )
        self._operations[operation.id] = operation
        self._publish(operation)
        self._move(operation, Status.RUNNING)
        task = asyncio.create_task(self._run(operation, run), name=f"operation {operation.id}")
        self._tasks[operation.id] = task
        task.add_done_callback(lambda _: self._settle(operation))
        return operation

    def get(self, operation_id: str) -> Operation:
        """One operation. Raises NotFoundError."""
        operation = self._operations.get(operation_id)
        if operation is None:
            raise NotFoundError("Operation not found")
        return operation

    def by_status(self, *, project: str | None = None) -> dict[str, list[Operation]]:
        """Operations of one project, or of all, grouped by status in lower case as clients read it."""
        groups: dict[str, list[Operation]] = {}
        for operation in self.list(project=project):
            groups.setdefault(operation.status.text.lower(), []).append(operation)
        return groups

    def list(self, *, project: str | None = None) -> list[Operation]:
        """Operations of one project, or of all; oldest first."""
        return [entry for entry in self._operations.values() if project is None or entry.project == project]

    async def cancel(self, operation_id: str) -> None:
        """Cancel, and wait until what the job had begun is undone.

        Raises NotFoundError, and InvalidRequestError when it can't be cancelled or has ended.
        """
        operation = self.get(operation_id)
        if operation.status.is_final or not operation.may_cancel:
            raise InvalidRequestError("This operation can't be cancelled")
        self._cancel(operation)
        await operation.wait()

    async def drain(self, timeout_s: float) -> None:
        """Take no new work, give running work `timeout_s` to end, then cancel it and wait for its roll-back."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_s)
        for operation_id in list(self._tasks):
            self._cancel(self._operations[operation_id])
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _run(self, operation: Operation, run: Run) -> None:
        """Run the job and record how it ended."""
        progress = OperationProgress(lambda values: self._merge(operation, values))
        try:
            result = await run(progress)
        except LxdpyError as exc:
            logger.info("Operation %s (%s) failed: %s", operation.id, operation.description, exc)
            self._end(operation, Status.FAILURE, progress, {"error_code": self._error_code(exc)}, str(exc))
        except asyncio.CancelledError:
            if operation.status is Status.CANCELLING:
                self._end(operation, Status.CANCELLED, progress, {}, "Operation cancelled")
            else:
                self._surprise(operation, progress)
        except Exception:  # noqa: BLE001 (whatever a job raises ends this job alone)
            self._surprise(operation, progress)
        else:
            self._end(operation, Status.SUCCESS, progress, result or {})

    def _surprise(self, operation: Operation, progress: OperationProgress) -> None:
        """Record an error that nobody meant to raise; only the log tells what it was."""
        logger.exception("Operation %s (%s) failed", operation.id, operation.description)
        self._end(
            operation, Status.FAILURE, progress, {"error_code": 500}, f"Internal error (operation {operation.id})"
        )

    def _end(
        self,
        operation: Operation,
        status: Status,
        progress: OperationProgress,
        values: Mapping[str, object],
        err: str = "",
    ) -> None:
        values = {**progress.finish(), **values}
        if values:
            operation.metadata = {**(operation.metadata or {}), **values}
        operation.err = err
        operation.may_cancel = False
        self._move(operation, status)
        operation.ended.set()

    def _settle(self, operation: Operation) -> None:
        """The task is over: forget it now, and the operation in a while."""
        task = self._tasks.pop(operation.id)
        if not operation.status.is_final:
            # Cancelled before its first step: the coroutine never ran, so nothing was begun.
            operation.may_cancel = False
            operation.err = "Operation cancelled"
            self._move(operation, Status.CANCELLED)
            operation.ended.set()
        elif not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Operation %s ended badly", operation.id, exc_info=error)
        task.get_loop().call_later(KEEP_S, self._operations.pop, operation.id, None)

    def _cancel(self, operation: Operation) -> None:
        if operation.status is Status.RUNNING:
            self._move(operation, Status.CANCELLING)
            self._tasks[operation.id].cancel()

    def _merge(self, operation: Operation, values: Mapping[str, object]) -> None:
        operation.metadata = {**(operation.metadata or {}), **values}
        operation.updated_at = timestamp()
        self._publish(operation)

    def _move(self, operation: Operation, status: Status) -> None:
        operation.status = status
        operation.updated_at = timestamp()
        self._publish(operation)

    def _publish(self, operation: Operation) -> None:
        self._events.publish(EventType.OPERATION, operation.render(), project=operation.project)
