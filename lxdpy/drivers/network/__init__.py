"""The managed bridge of this host: link, address, forwarding, NAT."""

from lxdpy.drivers.network.host import HostNetwork

__all__ = ["HostNetwork"]
