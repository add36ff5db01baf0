"""Networks: the managed bridge, its leases, and the files that tell a container of them."""

from lxdpy.services.networks.service import Network, NetworkService, Nic

__all__ = ["Network", "NetworkService", "Nic"]
