"""What `GET /1.0` says of the daemon and its host."""

import os
import platform
from collections.abc import Mapping

from fastapi import Request

import lxdpy
from lxdpy.api import envelope
from lxdpy.api.deps import Services
from lxdpy.api.etag import etag
from lxdpy.api.extensions import EXTENSIONS
from lxdpy.project import DEFAULT
from lxdpy.services import architectures
from lxdpy.services.storage import DIR, OVERLAY


class ServerView:
    """The answer to `GET /1.0`, rendered when something of it changes: every command of LXD's client asks for it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._environment = _environment(services)
        self._server = render(self._environment)
        services.server_config.on_change(self._render)
        self._render()

    def _render(self) -> None:
        self._server["config"] = config = dict(self._services.server_config.values)
        self.body = envelope.sync_bytes(self._server)
        self.etag = etag(config)

    def body_for(self, project: str) -> bytes:
        """The answer to who asks for a project: it says so."""
        if project == DEFAULT:
            return self.body
        return envelope.sync_bytes({**self._server, "environment": {**self._environment, "project": project}})


def server_view(request: Request) -> ServerView:
    """The daemon's rendered answer."""
    found: ServerView = request.app.state.server
    return found


def render(environment: Mapping[str, object]) -> dict[str, object]:
    """The server object. Constant while the daemon runs, but for its configuration."""
    return {
        "api_extensions": EXTENSIONS,
        "api_status": "stable",
        "api_version": "1.0",
        "auth": "trusted",
        "auth_methods": [],
        "public": False,
        "config": {},
        "environment": environment,
    }


def _environment(services: Services) -> dict[str, object]:
    system = os.uname()
    release = _os_release()
    return {
        "addresses": [],
        "architectures": architectures.of_host(),
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
        "project": DEFAULT,
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
    }


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        # A host without os-release is odd, and no reason to refuse service.
        return {}
