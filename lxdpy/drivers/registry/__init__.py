"""Client of registries that speak the OCI distribution protocol (v2).

client       resolve a reference, say where blobs are
hosts        which hosts answer for a registry, in which order, and how to speak with them
auth         challenge -> credentials -> Authorization header
http         one request: redirects, retries, limits (httpx)
transport    the same rules without a library, for the layer worker too
"""

from lxdpy.drivers.registry.client import RegistryClient

__all__ = ["RegistryClient"]
