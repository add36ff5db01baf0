"""What LXD's clients ask of every server, and a single host that is reached by its unix socket has none of: other
members of a cluster, virtual machines, clients with certificates, warnings."""

from typing import Any

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas.standalone import Cluster
from lxdpy.errors import NotFoundError

router = Router()

_LIST = {"recursion": "1: objects"}


@router.get("/1.0/cluster", **documented(Cluster))
async def get_cluster(request: Request) -> Response:
    """This host is not clustered."""
    return envelope.sync({"server_name": "", "enabled": False, "member_config": []})


@router.get("/1.0/virtual-machines", **documented(list[str] | list[dict[str, Any]], query=_LIST))
async def get_virtual_machines(request: Request) -> Response:
    """All instances are containers."""
    return envelope.sync([])


@router.get("/1.0/certificates", **documented(list[str] | list[dict[str, Any]], query=_LIST))
async def get_certificates(request: Request) -> Response:
    """No client is trusted for a certificate: whoever may open the socket is."""
    return envelope.sync([])


@router.get("/1.0/certificates/{fingerprint}", **documented(dict[str, Any]))
async def get_certificate(request: Request) -> Response:
    """There are none."""
    raise NotFoundError("Certificate not found")


@router.get("/1.0/warnings", **documented(list[str] | list[dict[str, Any]], query=_LIST))
async def get_warnings(request: Request) -> Response:
    """Nothing is kept as a warning: what the daemon warns of is in its log."""
    return envelope.sync([])


@router.get("/1.0/warnings/{id}", **documented(dict[str, Any]))
async def get_warning(request: Request) -> Response:
    """There are none."""
    raise NotFoundError("Warning not found")


@router.put("/1.0/warnings/{id}", **documented())
async def put_warning(request: Request) -> Response:
    """There are none to acknowledge."""
    raise NotFoundError("Warning not found")


@router.delete("/1.0/warnings/{id}", **documented())
async def delete_warning(request: Request) -> Response:
    """There are none to delete."""
    raise NotFoundError("Warning not found")
