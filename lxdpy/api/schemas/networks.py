"""Networks on the wire."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lxdpy.db.leases import LeaseRecord
from lxdpy.drivers.base import BridgeState, HostInterface
from lxdpy.services.networks import Network as NetworkModel

_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
_Config = Annotated[dict[str, _Text], BeforeValidator(lambda value: {} if value is None else value)]


class _Lenient(BaseModel):
    """Clients send fields of newer LXDs, and what they have read: those that can't be written are ignored."""

    model_config = ConfigDict(extra="ignore")


class NetworksPost(_Lenient):
    """A new network."""

    name: str = Field(description="of the bridge: 2 to 15 letters, digits, `_`, `.` and `-`")
    type: _Text = Field("", description='"bridge", or absent')
    description: _Text = ""
    config: _Config = Field(
        default_factory=dict, description="keys as LXD's; without ipv4.address or ipv6.address, free ones are picked"
    )


class NetworkPut(_Lenient):
    """What a client may write of a network."""

    description: _Text = ""
    config: _Config = Field(default_factory=dict)


class NetworkPatch(_Lenient):
    """The part of `NetworkPut` to change; the configuration is merged, an empty value removes a key."""

    description: str | None = None
    config: _Config | None = None


class NetworkPost(_Lenient):
    """Another name."""

    name: str


class Network(BaseModel):
    """A managed network, or another interface of the host."""

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


class NetworkState(BaseModel):
    """What the kernel says of an interface."""

    addresses: list[dict[str, str]]
    counters: dict[str, int]
    hwaddr: str
    mtu: int
    state: str
    type: str
    bond: dict[str, Any] | None
    bridge: dict[str, Any] | None
    vlan: dict[str, Any] | None
    ovn: dict[str, Any] | None


def render_network(network: NetworkModel) -> dict[str, object]:
    """A network as clients read it."""
    return {
        "name": network.name,
        "description": network.description,
        "type": "bridge",
        "managed": True,
        "status": "Created",
        "config": network.config,
        "used_by": network.used_by,
        "locations": ["none"],
    }


def render_interface(interface: HostInterface, used_by: tuple[str, ...]) -> dict[str, object]:
    """An interface that is no managed network."""
    return {
        "name": interface.usage.name,
        "description": "",
        "type": _type(interface),
        "managed": False,
        "status": "",
        "config": {},
        "used_by": used_by,
        "locations": [],
    }


def writable_network(network: NetworkModel) -> list[object]:
    """The part that ETags cover."""
    return [network.name, network.description, dict(network.config)]


def patched_network(current: NetworkModel, body: NetworkPatch) -> tuple[str, Mapping[str, str]]:
    """Description and configuration with `body`'s changes."""
    config = {**current.config, **(body.config or {})}
    return (
        current.description if body.description is None else body.description,
        {key: value for key, value in config.items() if value},
    )


def render_state(interface: HostInterface) -> dict[str, object]:
    """An interface's state as clients read it."""
    usage = interface.usage
    return {
        "addresses": [
            {"family": entry.family, "address": entry.address, "netmask": str(entry.prefix), "scope": entry.scope}
            for entry in usage.addresses
        ],
        "counters": {
            key: usage.counters.get(key, 0)
            for key in ("bytes_received", "bytes_sent", "packets_received", "packets_sent")
        },
        "hwaddr": usage.hwaddr,
        "mtu": usage.mtu,
        "state": "up" if usage.up else "down",
        "type": usage.kind,
        "bond": None,
        "bridge": _bridge(interface.bridge) if interface.bridge else None,
        "vlan": None,
        "ovn": None,
    }


def render_lease(lease: LeaseRecord, hostname: str) -> dict[str, object]:
    """A lease as clients read it."""
    return {
        "hostname": hostname,
        "hwaddr": lease.hwaddr,
        "address": lease.address,
        "type": "static",
        "location": "",
    }


def render_gateway(network: str, address: str) -> dict[str, object]:
    """The host's own address on a network, which LXD lists among the leases."""
    return {"hostname": f"{network}.gw", "hwaddr": "", "address": address, "type": "gateway", "location": ""}


def _type(interface: HostInterface) -> str:
    if interface.usage.kind == "loopback":
        return "loopback"
    if not interface.driver:
        return "physical"
    return interface.driver if interface.driver in ("bridge", "vlan", "bond") else "unknown"


def _bridge(state: BridgeState) -> dict[str, object]:
    return {
        "id": state.id,
        "stp": state.stp,
        "forward_delay": state.forward_delay,
        "vlan_default": state.vlan_default,
        "vlan_filtering": state.vlan_filtering,
        "upper_devices": state.ports,
    }
