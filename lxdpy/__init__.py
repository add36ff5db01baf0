"""lxdpy: containers from Docker/OCI images behind the LXD API.

`lxdpy.Client`, `lxdpy.AsyncClient` and `lxdpy.__version__` are looked up on first use: worker processes import this
package too, and must not pay for an HTTP client.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxdpy.client import AsyncClient, Client

    __version__: str

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("AsyncClient", "Client"):
        from lxdpy import client

        return getattr(client, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("lxdpy")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
