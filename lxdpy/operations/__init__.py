"""Background work: state machine, cancel, wait, progress, event stream. Runs any job and knows no service."""

from lxdpy.operations.events import Events, EventType, Requestor, current_project, current_requestor
from lxdpy.operations.operation import Operation
from lxdpy.operations.progress import OperationProgress
from lxdpy.operations.registry import Operations, Run
from lxdpy.operations.status import OperationClass, Status

__all__ = [
    "EventType",
    "Events",
    "Operation",
    "OperationClass",
    "OperationProgress",
    "Operations",
    "Requestor",
    "Run",
    "Status",
    "current_project",
    "current_requestor",
]
