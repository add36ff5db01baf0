"""`/1.0/resources`: the host's hardware."""

import asyncio

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import services
from lxdpy.api.routing import Router, documented
from lxdpy.drivers.hardware import Resources

router = Router()


@router.get("/1.0/resources", **documented(Resources))
async def get_resources(request: Request) -> Response:
    """Processors, memory, cards, disks, devices, and the machine itself."""
    return envelope.sync(await asyncio.to_thread(services(request).hardware.read))
