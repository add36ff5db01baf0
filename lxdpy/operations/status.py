"""Status codes and classes of operations, as LXD's API promises them."""

from enum import IntEnum, StrEnum


class Status(IntEnum):
    """Where an operation is."""

    PENDING = 105
    RUNNING = 103
    CANCELLING = 104
    SUCCESS = 200
    FAILURE = 400
    CANCELLED = 401

    @property
    def text(self) -> str:
        """The name on the wire, e.g. `Running`."""
        return self.name.capitalize()

    @property
    def is_final(self) -> bool:
        """Whether the operation has ended."""
        return self >= Status.SUCCESS


class OperationClass(StrEnum):
    """What a client can do with an operation."""

    TASK = "task"
    WEBSOCKET = "websocket"
    TOKEN = "token"
