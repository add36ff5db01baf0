"""The server on the wire."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class StorageDriver(BaseModel):
    """A storage driver; its keys are capitalised on the wire."""

    Name: str
    Version: str
    Remote: bool


class Environment(BaseModel):
    """Daemon and host."""

    addresses: list[str]
    architectures: list[str]
    certificate: str
    certificate_fingerprint: str
    driver: str
    driver_version: str
    firewall: str
    kernel: str
    kernel_architecture: str
    kernel_features: dict[str, str]
    kernel_version: str
    lxc_features: dict[str, str]
    os_name: str
    os_version: str
    project: str
    server: str
    server_clustered: bool
    server_name: str
    server_pid: int
    server_version: str
    storage: str
    storage_version: str
    storage_supported_drivers: list[StorageDriver]


class ServerPut(BaseModel):
    """What a client may write of the server."""

    model_config = ConfigDict(extra="ignore")

    config: dict[str, Any] | None = Field(None, description="keys and values; an empty value is none")


class Server(BaseModel):
    """What this server is and offers."""

    api_extensions: list[str]
    api_status: Literal["stable"]
    api_version: Literal["1.0"]
    auth: Literal["trusted"]
    auth_methods: list[str]
    public: bool
    config: dict[str, Any]
    environment: Environment
