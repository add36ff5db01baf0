"""The part of LXD's API that lxdpy does not have: each path answers 501 and says why.

A path that LXD does not know either is a 404 (api/errors.py). What a path that is offered lacks, its own route refuses.
None of this is in the document: api/compatibility.md lists it.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from lxdpy.api.routing import Router
from lxdpy.errors import UnsupportedError

UNOFFERED = {
    "lxdpy serves one host and does not cluster": (
        "PUT /1.0/cluster",
        "PUT /1.0/cluster/certificate",
        "GET,POST /1.0/cluster/groups",
        "GET,POST,PUT,PATCH,DELETE /1.0/cluster/groups/{name}",
        "GET,POST /1.0/cluster/members",
        "GET,POST,PUT,PATCH,DELETE /1.0/cluster/members/{name}",
        "GET,POST /1.0/cluster/members/{name}/state",
    ),
    "clients are trusted for opening the unix socket, not for certificates": (
        "POST /1.0/certificates",
        "PUT,PATCH,DELETE /1.0/certificates/{fingerprint}",
    ),
    "managed networks are bridges without access control lists": (
        "GET,POST /1.0/network-acls",
        "GET,POST,PUT,PATCH,DELETE /1.0/network-acls/{name}",
        "GET /1.0/network-acls/{name}/log",
    ),
    "managed networks are bridges without forwards": (
        "GET,POST /1.0/networks/{network}/forwards",
        "GET,PUT,PATCH,DELETE /1.0/networks/{network}/forwards/{address}",
    ),
    "managed networks are bridges without peers": (
        "GET,POST /1.0/networks/{network}/peers",
        "GET,PUT,PATCH,DELETE /1.0/networks/{network}/peers/{name}",
    ),
    "lxdpy serves no DNS zones": (
        "GET,POST /1.0/network-zones",
        "GET,PUT,PATCH,DELETE /1.0/network-zones/{zone}",
        "GET,POST /1.0/network-zones/{zone}/records",
        "GET,PUT,PATCH,DELETE /1.0/network-zones/{zone}/records/{name}",
    ),
    "pools hold no buckets": (
        "GET,POST /1.0/storage-pools/{pool}/buckets",
        "GET,PUT,PATCH,DELETE /1.0/storage-pools/{pool}/buckets/{bucket}",
        "GET,POST /1.0/storage-pools/{pool}/buckets/{bucket}/keys",
        "GET,PUT,DELETE /1.0/storage-pools/{pool}/buckets/{bucket}/keys/{key}",
    ),
    "instances are containers": ("POST /1.0/virtual-machines",),
    "the numbers are in the instances' states": ("GET /1.0/metrics",),
    "no other server can reach this one": ("POST /1.0/images/{fingerprint}/secret",),
    "files are read and written one by one at /1.0/instances/NAME/files": ("GET /1.0/instances/{name}/sftp",),
}
"""Why, and what: METHODS PATH."""

router = Router()


def _refuse(why: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def refuse(request: Request) -> Response:
        raise UnsupportedError(f"Cannot {request.method} {request.url.path}: not offered: {why}")

    return refuse


for _why, _routes in UNOFFERED.items():
    for _methods, _path in (route.split() for route in _routes):
        for _method in _methods.split(","):
            router.add_api_route(_path, _refuse(_why), methods=[_method], response_model=None, include_in_schema=False)
