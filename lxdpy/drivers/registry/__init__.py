"""Client of registries that speak the OCI distribution protocol (v2).

client       resolve a reference, say where blobs are
hosts        which hosts answer for a registry, in which order, and how to speak with them
auth         challenge -> credentials -> Authorization header
http         one request: redirects, retries, limits (httpx)
transport    the same rules without a library, for the layer worker too

`RegistryClient` is looked up on first use: the layer worker needs `transport` alone.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxdpy.drivers.registry.client import RegistryClient

__all__ = ["RegistryClient"]


def __getattr__(name: str) -> object:
    if name == "RegistryClient":
        from lxdpy.drivers.registry import client

        return client.RegistryClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
