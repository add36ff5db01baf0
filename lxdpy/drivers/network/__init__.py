"""Managed bridges of this host: link, addresses, forwarding, NAT; DHCP and DNS on them; containers' interfaces."""

from lxdpy.drivers.network.dnsmasq import Dnsmasq
from lxdpy.drivers.network.host import HostNetwork

__all__ = ["Dnsmasq", "HostNetwork"]
