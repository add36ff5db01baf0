"""Thin client of the LXD API on a unix socket: `Client` for blocking code, `AsyncClient` for asyncio.

    with Client() as client:
        web = client.instances.create("nginx:1.27", "web")     # pulls what is missing
        web.start()
        print(web.execute(["nginx", "-v"]).stderr.decode())

Needs httpx and websockets only, and speaks to a real LXD too. The verbs that liblxc's first Go binding began with:

| verb     | here                                   | on the wire                                   |
|----------|----------------------------------------|-----------------------------------------------|
| new      | client.instances.create(image, name)   | POST /1.0/instances                           |
| start    | instance.start()                       | PUT /1.0/instances/NAME/state action=start    |
| execute  | instance.execute(argv), .exec(argv)    | POST /1.0/instances/NAME/exec + websockets    |
| destroy  | instance.delete(force=True)            | PUT .../state action=stop, DELETE ...         |
| shutdown | instance.shutdown(timeout_s)           | PUT .../state action=stop                     |
| list     | client.instances.list()                | GET /1.0/instances?recursion=2                |
"""

from lxdpy.client.aio import AsyncClient, AsyncImage, AsyncInstance
from lxdpy.client.errors import (
    Conflict,
    ConnectionFailed,
    LXDError,
    NotFound,
    OperationCancelled,
    OperationFailed,
    PreconditionFailed,
    WaitTimeout,
)
from lxdpy.client.operation import AsyncOperation
from lxdpy.client.process import AsyncProcess
from lxdpy.client.records import (
    Ancestor,
    Event,
    ExecResult,
    Exit,
    ImageRecord,
    InstanceRecord,
    InstanceState,
    LayerProgress,
    OperationRecord,
    RunResult,
)
from lxdpy.client.sync import Client, Image, Instance, Operation, Process

__all__ = [
    "Ancestor",
    "AsyncClient",
    "AsyncImage",
    "AsyncInstance",
    "AsyncOperation",
    "AsyncProcess",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Event",
    "ExecResult",
    "Exit",
    "Image",
    "ImageRecord",
    "Instance",
    "InstanceRecord",
    "InstanceState",
    "LXDError",
    "LayerProgress",
    "NotFound",
    "Operation",
    "OperationCancelled",
    "OperationFailed",
    "OperationRecord",
    "PreconditionFailed",
    "Process",
    "RunResult",
    "WaitTimeout",
]
