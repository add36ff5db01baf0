"""Networks and profiles on the wire."""

from pydantic import BaseModel

from lxdpy.db.leases import LeaseRecord
from lxdpy.services.instances import Profile as ProfileModel
from lxdpy.services.networks import Network as NetworkModel


class Network(BaseModel):
    """A managed network."""

    name: str
    description: str
    type: str
    managed: bool
    status: str
    config: dict[str, str]
    used_by: list[str]
    locations: list[str]


class NetworkLease(BaseModel):
    """An address and whose it is."""

    hostname: str
    hwaddr: str
    address: str
    type: str
    location: str


class Profile(BaseModel):
    """What instances share."""

    name: str
    description: str
    config: dict[str, str]
    devices: dict[str, dict[str, str]]
    used_by: list[str]


def render_network(network: NetworkModel) -> dict[str, object]:
    """A network as clients read it."""
    return {
        "name": network.name,
        "description": "",
        "type": "bridge",
        "managed": True,
        "status": "Created",
        "config": {"ipv4.address": network.ipv4_address, "ipv4.nat": "true", "ipv6.address": "none"},
        "used_by": [f"/1.0/instances/{name}" for name in network.used_by],
        "locations": ["none"],
    }


def render_lease(lease: LeaseRecord) -> dict[str, object]:
    """A lease as clients read it."""
    return {
        "hostname": lease.instance,
        "hwaddr": lease.hwaddr,
        "address": lease.address,
        "type": "static",
        "location": "none",
    }


def render_profile(profile: ProfileModel, used_by: list[str]) -> dict[str, object]:
    """A profile as clients read it."""
    return {
        "name": profile.name,
        "description": profile.description,
        "config": profile.config,
        "devices": profile.devices,
        "used_by": [f"/1.0/instances/{name}" for name in used_by],
    }
