"""Interfaces by pyroute2."""

import errno
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError


def find_link(route: Any, name: str) -> Any | None:
    """One interface as pyroute2 knows it; None when there is none of that name."""
    try:
        return next(iter(route.link("get", ifname=name)))
    except NetlinkError as exc:
        if exc.code == errno.ENODEV:
            return None
        raise


def kind(link: Any) -> str:
    """`bridge`, `veth`, ...; `hardware` when the kernel has no word for it."""
    info = link.get_attr("IFLA_LINKINFO")
    return (info and info.get_attr("IFLA_INFO_KIND")) or "hardware"
