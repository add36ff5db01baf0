"""Networks: managed bridges, leases on them, and the files that tell a container of them."""

from lxdpy.services.networks.service import Network, NetworkService, Nic, Resolver

__all__ = ["Network", "NetworkService", "Nic", "Resolver"]
