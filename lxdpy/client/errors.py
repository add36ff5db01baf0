"""What the client raises.

LXDError                   status (HTTP status, 0 = none) and message
├── NotFound               404
├── Conflict               409
├── PreconditionFailed     412: If-Match named another version
├── OperationFailed        the background operation ended in failure: error_code, operation
│   └── OperationCancelled
├── WaitTimeout            also a TimeoutError: what was waited for goes on
└── ConnectionFailed       also a ConnectionError: the daemon was not reached, or went away
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxdpy.client.records import OperationRecord


class LXDError(Exception):
    """Base of all; `str()` is the daemon's own text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class NotFound(LXDError):
    """What was named does not exist."""


class Conflict(LXDError):
    """It exists already, or its state forbids the request."""


class PreconditionFailed(LXDError):
    """Somebody else changed it in between."""


class OperationFailed(LXDError):
    """A background operation failed; `error_code` is the HTTP status that fits (400 if the server says none)."""

    def __init__(self, operation: "OperationRecord") -> None:
        super().__init__(operation.error_code, operation.err or f"Operation {operation.id} ended as {operation.status}")
        self.operation = operation
        self.error_code = operation.error_code


class OperationCancelled(OperationFailed):
    """A background operation was cancelled."""


class WaitTimeout(LXDError, TimeoutError):
    """The time to wait is over; nothing was undone."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


class ConnectionFailed(LXDError, ConnectionError):
    """No answer on the socket; `__cause__` has the errno."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


_BY_STATUS: dict[int, type[LXDError]] = {404: NotFound, 409: Conflict, 412: PreconditionFailed}


def from_status(status: int, message: str) -> LXDError:
    """The error that fits one HTTP status."""
    return _BY_STATUS.get(status, LXDError)(status, message)
