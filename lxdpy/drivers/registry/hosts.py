"""Which hosts answer for a registry: its mirrors in their order, itself last; and how to speak with each.

The configuration says so per host. Where it is silent, /etc/containers/certs.d/HOST and /etc/docker/certs.d/HOST may
bring CAs (`*.crt`) and a client certificate (`*.cert` with a `*.key`), and loopback may speak http, as with docker.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lxdpy.config import Config, RegistryConfig
from lxdpy.oci.reference import DOCKER_HUB

CERTS_DIRS = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))

_HUB_ADDRESS = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Host:
    """One host that serves a registry's repositories."""

    name: str
    """HOST[:PORT] as users write it: the key of its configuration and credentials."""
    address: str
    """HOST[:PORT] to connect to."""
    schemes: tuple[str, ...]
    """What to speak; with two, the first that is understood."""
    prefix: str = ""
    """What a mirror puts before the repository's name, with a slash at its end."""
    mirror_of: str | None = None
    verify: bool = True
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    def path(self, repository: str, kind: str, name: str) -> str:
        """The path of a manifest or blob. Mirrors of several registries are told which is meant, as by containerd."""
        namespace = f"?ns={self.mirror_of}" if self.mirror_of is not None else ""
        return f"/v2/{self.prefix}{repository}/{kind}/{name}{namespace}"


def hosts_of(registry: str, config: Config, certs_dirs: Sequence[Path] = CERTS_DIRS) -> tuple[Host, ...]:
    """The hosts to ask for what is in `registry`."""
    own = config.registries.get(registry, RegistryConfig())
    mirrors = tuple(_mirror(text, registry, config, certs_dirs) for text in own.mirrors)
    return (*mirrors, _host(registry, own, certs_dirs))


def is_loopback(address: str) -> bool:
    """Whether HOST[:PORT] is this host's own."""
    name = address.rpartition(":")[0] if not address.endswith("]") and ":" in address else address
    name = name.strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _mirror(text: str, registry: str, config: Config, certs_dirs: Sequence[Path]) -> Host:
    """A mirror is `[SCHEME://]HOST[:PORT][/PREFIX]`."""
    scheme, separator, rest = text.rpartition("://")
    name, _, prefix = rest.strip("/").partition("/")
    host = _host(name, config.registries.get(name, RegistryConfig()), certs_dirs)
    return Host(
        name=host.name,
        address=host.address,
        schemes=(scheme.lower(),) if separator else host.schemes,
        prefix=f"{prefix}/" if prefix else "",
        mirror_of=registry,
        verify=host.verify,
        ca_file=host.ca_file,
        client_cert=host.client_cert,
        client_key=host.client_key,
    )


def _host(name: str, config: RegistryConfig, certs_dirs: Sequence[Path]) -> Host:
    ca_file, client_cert, client_key = config.ca_file, config.client_cert, config.client_key
    for directory in (path / name for path in certs_dirs):
        if ca_file is None and any(directory.glob("*.crt")):
            ca_file = str(directory)
        if client_cert is None and (certificates := sorted(directory.glob("*.cert"))):
            client_cert, client_key = str(certificates[0]), str(certificates[0].with_suffix(".key"))
    schemes, verify = ("https",), not config.skip_verify
    if config.plain_http:
        schemes = ("http",)
    elif verify and ca_file is None and is_loopback(name):
        return Host(name, name, ("https", "http"), verify=False, client_cert=client_cert, client_key=client_key)
    return Host(
        name=name,
        address=_HUB_ADDRESS if name == DOCKER_HUB else name,
        schemes=schemes,
        verify=verify,
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
    )
