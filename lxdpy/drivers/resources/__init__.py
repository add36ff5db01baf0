"""Driver `resources`: what hardware this host has, read from /proc and /sys."""

from lxdpy.drivers.resources.host import HostResources

__all__ = ["HostResources"]
