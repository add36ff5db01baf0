"""`/1.0/networks`: managed bridges, and the host's other interfaces to look at.

Networks belong to no project: whoever asks in one sees those of all.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import Request, Response

from lxdpy.api import envelope
from lxdpy.api.deps import body, project, recursion, services
from lxdpy.api.etag import check_if_match, etag
from lxdpy.api.routing import Router, documented
from lxdpy.api.schemas import networks as schema
from lxdpy.drivers.base import HostInterface
from lxdpy.errors import InvalidRequestError, NotFoundError
from lxdpy.project import plain_name
from lxdpy.services.networks import Network

if TYPE_CHECKING:
    from lxdpy.services.networks import NetworkService

router = Router()


@router.get("/1.0/networks", **documented(list[schema.Network] | list[str], query={"recursion": "1: objects"}))
async def get_networks(request: Request) -> Response:
    """Every managed network, and every other interface of the host."""
    _check_project(request)
    networks = services(request).networks
    managed = networks.all()
    others = await _others(networks, {network.name for network in managed})
    if recursion(request) == 0:
        names = [network.name for network in managed] + [interface.usage.name for interface in others]
        return envelope.sync([f"/1.0/networks/{name}" for name in names])
    return envelope.sync(
        [schema.render_network(network) for network in managed]
        + [schema.render_interface(interface, networks.users_of(interface.usage.name)) for interface in others]
    )


@router.post("/1.0/networks", **documented(status=201, body=schema.NetworksPost))
async def post_networks(request: Request) -> Response:
    """Make a network and its bridge."""
    new = await body(request, schema.NetworksPost)
    if request.query_params.get("target"):
        raise InvalidRequestError("Target only allowed when clustered")
    await services(request).networks.create(new.name, new.type, new.description, new.config)
    return envelope.created(f"/1.0/networks/{new.name}")


@router.get("/1.0/networks/{name}", **documented(schema.Network))
async def get_network(request: Request) -> Response:
    """One managed network, or another interface of the host."""
    networks = services(request).networks
    name = request.path_params["name"]
    try:
        network = networks.get(name)
    except NotFoundError:
        for interface in await _others(networks, set()):
            if interface.usage.name == name:
                return envelope.sync(schema.render_interface(interface, networks.users_of(name)))
        raise
    return envelope.sync(schema.render_network(network), etag=etag(schema.writable_network(network)))


@router.put("/1.0/networks/{name}", **documented(body=schema.NetworkPut))
async def put_network(request: Request) -> Response:
    """Replace description and configuration."""
    new = await body(request, schema.NetworkPut)

    def change(current: Network) -> tuple[str, Mapping[str, str]]:
        check_if_match(request, schema.writable_network(current))
        return new.description, new.config

    await services(request).networks.update(request.path_params["name"], change)
    return envelope.empty()


@router.patch("/1.0/networks/{name}", **documented(body=schema.NetworkPatch))
async def patch_network(request: Request) -> Response:
    """Change a part of description and configuration; an empty value removes a key."""
    patch = await body(request, schema.NetworkPatch)

    def change(current: Network) -> tuple[str, Mapping[str, str]]:
        check_if_match(request, schema.writable_network(current))
        return schema.patched_network(current, patch)

    await services(request).networks.update(request.path_params["name"], change)
    return envelope.empty()


@router.post("/1.0/networks/{name}", **documented(status=201, body=schema.NetworkPost))
async def post_network(request: Request) -> Response:
    """Give an unused network another name."""
    new_name = (await body(request, schema.NetworkPost)).name
    await services(request).networks.rename(request.path_params["name"], new_name)
    return envelope.created(f"/1.0/networks/{new_name}")


@router.delete("/1.0/networks/{name}", **documented())
async def delete_network(request: Request) -> Response:
    """Take an unused network down. The daemon's configured one is back when the next start wants it."""
    await services(request).networks.delete(request.path_params["name"])
    return envelope.empty()


@router.get("/1.0/networks/{name}/state", **documented(schema.NetworkState))
async def get_network_state(request: Request) -> Response:
    """Addresses and counters of a network's bridge, or of another interface."""
    return envelope.sync(schema.render_state(await services(request).networks.interface(request.path_params["name"])))


@router.get("/1.0/networks/{name}/leases", **documented(list[schema.NetworkLease]))
async def get_leases(request: Request) -> Response:
    """The addresses given on a network, and the host's own."""
    networks = services(request).networks
    name = request.path_params["name"]
    leases = [schema.render_lease(lease, plain_name(lease.instance)) for lease in networks.leases(name)]
    leases += [
        {**schema.render_lease(lease, plain_name(lease.instance)), "address": address, "type": "dynamic"}
        for lease, address in networks.ipv6_addresses(name)
    ]
    return envelope.sync([*leases, *(schema.render_gateway(name, address) for address in networks.gateways(name))])


def _check_project(request: Request) -> None:
    """Raises NotFoundError for a project that is not there."""
    services(request).projects.get(project(request))


async def _others(networks: "NetworkService", managed: set[str]) -> list[HostInterface]:
    """Interfaces that are no managed network, without the host's ends of containers' NICs."""
    return [
        interface
        for interface in await networks.interfaces()
        if interface.usage.name not in managed and interface.driver != "veth"
    ]
