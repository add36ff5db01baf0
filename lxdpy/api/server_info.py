"""What `GET /1.0` says of the daemon and its host."""

import os
import platform

import lxdpy
from lxdpy.api.deps import Services
from lxdpy.api.extensions import EXTENSIONS
from lxdpy.services.storage import DIR, OVERLAY

_COMPATIBLE = {"x86_64": ["i686"], "aarch64": ["armv7l"]}


def render(services: Services) -> dict[str, object]:
    """The server object. Constant while the daemon runs."""
    system = os.uname()
    release = _os_release()
    return {
        "api_extensions": EXTENSIONS,
        "api_status": "stable",
        "api_version": "1.0",
        "auth": "trusted",
        "auth_methods": [],
        "public": False,
        "config": {},
        "environment": {
            "addresses": [],
            "architectures": [system.machine, *_COMPATIBLE.get(system.machine, [])],
            "certificate": "",
            "certificate_fingerprint": "",
            "driver": "lxc",
            "driver_version": services.lxc_version,
            "firewall": "nftables",
            "kernel": system.sysname,
            "kernel_architecture": system.machine,
            "kernel_features": {},
            "kernel_version": system.release,
            "lxc_features": {},
            "os_name": release.get("NAME", ""),
            "os_version": release.get("VERSION_ID", ""),
            "project": "default",
            "server": "lxdpy",
            "server_clustered": False,
            "server_name": system.nodename,
            "server_pid": os.getpid(),
            "server_version": lxdpy.__version__,
            "storage": OVERLAY,
            "storage_version": system.release,
            "storage_supported_drivers": [
                {"Name": driver, "Version": system.release, "Remote": False} for driver in (DIR, OVERLAY)
            ],
        },
    }


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        # A host without os-release is odd, and no reason to refuse service.
        return {}
