"""Containers by liblxc: the daemon's side. Every liblxc call runs in a child of the lifecycle worker."""

from lxdpy.drivers.liblxc.containers import LxcContainers

__all__ = ["LxcContainers"]
