"""Numbers of running containers, read from cgroup files and netlink: no fork, no liblxc."""

from lxdpy.drivers.probe.probe import CgroupProbe

__all__ = ["CgroupProbe"]
