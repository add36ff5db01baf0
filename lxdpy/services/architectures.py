"""Architectures, which every world names in its own way: x86_64 of the kernel and of LXD is amd64 elsewhere."""

import os
from collections.abc import Mapping

OF_OCI: Mapping[str, str] = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "arm": "armv7l",
    "386": "i686",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""LXD's name of an OCI image's architecture."""

OF_DEBIAN: Mapping[str, str] = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "armhf": "armv7l",
    "armel": "armv7l",
    "i386": "i686",
    "powerpc": "ppc",
    "ppc64el": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
"""LXD's name of an architecture as Debian and simplestreams name it."""

_COMPATIBLE = {"x86_64": ("i686",), "aarch64": ("armv7l",)}


def debian_names(name: str) -> list[str]:
    """What Debian calls an architecture that LXD calls `name`, the usual name first."""
    return [debian for debian, lxd in OF_DEBIAN.items() if lxd == name] or [name]


def of_host() -> tuple[str, ...]:
    """What this host runs, best first, in LXD's names."""
    machine = os.uname().machine
    return (machine, *_COMPATIBLE.get(machine, ()))
