"""lxdpy: containers from Docker/OCI images behind the LXD API.

`lxdpy.Client`, `lxdpy.AsyncClient` and `lxdpy.__version__` are looked up on first use: worker processes import this
package too, and must pay neither for an HTTP client nor for `typing`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lxdpy.client import AsyncClient, Client

    __version__: str

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        from importlib import import_module

        # Not an import statement: to lint-imports everything in the package would stand on the client.
        return getattr(import_module("lxdpy.client"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("lxdpy")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
