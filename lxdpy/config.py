"""The daemon's configuration: defaults, the TOML file, and where things lie in the state directory.

The file (`lxdpy daemon --config FILE`, default /etc/lxdpy/lxdpy.toml when it exists):

    [workers]
    lifecycle = 8                 # liblxc jobs at once
    downloads = 6                 # blobs at once, of all images together
    unpacks = 4                   # unpacking processes at once (default: two a core, which evens out their sizes)

    [registry."docker.io"]
    mirrors = ["mirror.example:5000"]

    [registry."registry.example:5000"]
    plain_http = true             # speak http
    skip_verify = false           # https without verification
    ca_file = "/etc/ssl/private-ca.pem"
    client_cert = "/etc/ssl/client.pem"
    client_key = "/etc/ssl/client.key"

    [network]
    bridge = "lxdpybr0"
    ipv4_address = "10.76.0.1/16" # gateway address and prefix

    [images]
    default_registry = "docker.io"
    max_unpacked_bytes = 21474836480

    [shutdown]
    timeout_s = 30

    [idmap]
    base = 1000000
    size = 65536
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lxdpy.errors import InvalidRequestError

DEFAULT_STATE_DIR = Path("/var/lib/lxdpy")
DEFAULT_CONFIG_FILE = Path("/etc/lxdpy/lxdpy.toml")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How many jobs of a kind run at once."""

    lifecycle: int = 8
    downloads: int = 6
    unpacks: int = field(default_factory=lambda: min(2 * (os.cpu_count() or 1), 16))


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How to speak with one registry host (`host[:port]`)."""

    mirrors: tuple[str, ...] = ()
    plain_http: bool = False
    skip_verify: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The managed bridge."""

    bridge: str = "lxdpybr0"
    ipv4_address: str = "10.76.0.1/16"


@dataclass(frozen=True, slots=True)
class ImagesConfig:
    """Limits on images, and the registry of names without a host."""

    default_registry: str = "docker.io"
    max_unpacked_bytes: int = 20 << 30
    max_entries: int = 2_000_000
    max_layers: int = 400


@dataclass(frozen=True, slots=True)
class ShutdownConfig:
    """How long SIGTERM waits for running operations."""

    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class IdmapConfig:
    """The host ids that unprivileged containers are mapped to."""

    base: int = 1_000_000
    size: int = 65_536


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the daemon is told from outside."""

    state_dir: Path = DEFAULT_STATE_DIR
    group: str = "lxdpy"
    workers: WorkerConfig = field(default_factory=WorkerConfig)
    registries: Mapping[str, RegistryConfig] = field(default_factory=dict)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)
    idmap: IdmapConfig = field(default_factory=IdmapConfig)

    @property
    def socket_path(self) -> Path:
        """The API's unix socket."""
        return self.state_dir / "unix.socket"


def load(state_dir: Path = DEFAULT_STATE_DIR, config_file: Path | None = None) -> Config:
    """Read the configuration file (none is fine unless one was named).

    Raises InvalidRequestError with file and key for what can't be right.
    """
    path = config_file or DEFAULT_CONFIG_FILE
    if config_file is None and not path.exists():
        return Config(state_dir=state_dir)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidRequestError(f"Cannot read configuration file {path}: {exc}") from exc
    registries = document.pop("registry", {})
    sections = {"workers", "network", "images", "shutdown", "idmap"}
    if unknown := sorted(set(document) - sections):
        raise InvalidRequestError(f"Unknown section [{unknown[0]}] in configuration file {path}")
    config = Config(
        state_dir=state_dir,
        workers=_section(WorkerConfig, document.get("workers", {}), path, "workers"),
        registries={
            host: _section(RegistryConfig, table, path, f'registry."{host}"') for host, table in registries.items()
        },
        network=_section(NetworkConfig, document.get("network", {}), path, "network"),
        images=_section(ImagesConfig, document.get("images", {}), path, "images"),
        shutdown=_section(ShutdownConfig, document.get("shutdown", {}), path, "shutdown"),
        idmap=_section(IdmapConfig, document.get("idmap", {}), path, "idmap"),
    )
    _check(config, path)
    return config


def _section(kind: type[T], table: Any, path: Path, name: str) -> T:
    """Build one section from its table, refusing unknown keys and wrong types."""
    if not isinstance(table, dict):
        raise InvalidRequestError(f"[{name}] in configuration file {path} must be a table")
    defaults = kind()
    values: dict[str, Any] = {}
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    for key, value in table.items():
        if key not in known:
            raise InvalidRequestError(f'Unknown key "{key}" in [{name}] of configuration file {path}')
        default = getattr(defaults, key)
        if isinstance(default, tuple):
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
            value = tuple(value) if fits else value
        elif isinstance(default, bool) or isinstance(value, bool):
            fits = isinstance(default, bool) and isinstance(value, bool)
        elif isinstance(default, float):
            fits = isinstance(value, int | float)
        elif isinstance(default, int):
            fits = isinstance(value, int) and value > 0
        else:
            fits = isinstance(value, str)
        if not fits:
            raise InvalidRequestError(f'Invalid value {value!r} of "{key}" in [{name}] of configuration file {path}')
        values[key] = value
    return kind(**values)


def _check(config: Config, path: Path) -> None:
    """Refuse values that have the right type and can't work."""
    try:
        address = ipaddress.IPv4Interface(config.network.ipv4_address)
    except ValueError as exc:
        raise InvalidRequestError(f"Invalid network.ipv4_address in configuration file {path}: {exc}") from exc
    if address.network.prefixlen > 29 or address.ip == address.network.network_address:
        raise InvalidRequestError(
            f"Invalid network.ipv4_address {address} in configuration file {path}: "
            "it must be a host address in a network of /29 or larger"
        )
    if not 1 <= len(config.network.bridge) <= 15:
        raise InvalidRequestError(f"Invalid network.bridge in configuration file {path}: 1 to 15 characters")
