"""`/1.0/networks`: the managed bridge."""

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import in_project, recursion, services
from lxdpy.api.etag import etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import networks as schema

router = Router()


@router.get("/1.0/networks", **documented(list[schema.Network] | list[str], query={"recursion": "1: objects"}))
async def get_networks(request: Request) -> Response:
    """Every managed network."""
    networks = services(request).networks.all() if in_project(request) else []
    if recursion(request) == 0:
        return envelope.sync([f"/1.0/networks/{network.name}" for network in networks])
    return envelope.sync([schema.render_network(network) for network in networks])


@router.get("/1.0/networks/{name}", **documented(schema.Network))
async def get_network(request: Request) -> Response:
    """One managed network."""
    network = schema.render_network(services(request).networks.get(request.path_params["name"]))
    return envelope.sync(network, etag=etag(network["config"]))


@router.delete("/1.0/networks/{name}", **documented())
async def delete_network(request: Request) -> Response:
    """Take an unused bridge and its firewall rules down; the next start that needs the network makes it again."""
    await services(request).networks.delete(request.path_params["name"])
    return envelope.empty()


@router.get("/1.0/networks/{name}/leases", **documented(list[schema.NetworkLease]))
async def get_leases(request: Request) -> Response:
    """The addresses given on a network."""
    leases = services(request).networks.leases(request.path_params["name"])
    return envelope.sync([schema.render_lease(lease) for lease in leases])
