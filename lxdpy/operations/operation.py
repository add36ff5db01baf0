"""One piece of background work, as clients see it.

Pending -> Running -> Success | Failure
              |----> Cancelling -> Cancelled | Failure | Success (when it was too late)
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lxdpy.operations.events import timestamp
from lxdpy.operations.status import OperationClass, Status
from lxdpy.websocket import Sockets


@dataclass(slots=True, eq=False)
class Operation:
    """State of one operation. Only the registry changes it."""

    description: str
    resources: Mapping[str, Sequence[str]]
    metadata: dict[str, object] | None
    may_cancel: bool
    project: str = "default"
    sockets: Sockets | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=timestamp)
    updated_at: str = field(init=False)
    status: Status = Status.PENDING
    err: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.updated_at = self.created_at

    @property
    def operation_class(self) -> OperationClass:
        """`websocket` when clients have to connect to it."""
        return OperationClass.TASK if self.sockets is None else OperationClass.WEBSOCKET

    @property
    def path(self) -> str:
        """Its path in the API."""
        return f"/1.0/operations/{self.id}"

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended, for at most `timeout_s` (None: however long); whether it has."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True

    def render(self) -> dict[str, object]:
        """The operation object on the wire."""
        return {
            "id": self.id,
            "class": self.operation_class.value,
            "description": self.description,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "status": self.status.text,
            "status_code": self.status.value,
            "resources": self.resources or None,
            "metadata": self.metadata,
            "may_cancel": self.may_cancel,
            "err": self.err,
            "location": "none",
        }
