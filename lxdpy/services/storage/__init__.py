"""Storage: pools and custom volumes."""

from lxdpy.services.storage.model import (
    DEFAULT_POOL,
    DIR,
    OVERLAY,
    Holding,
    Pool,
    PoolResources,
    Settings,
    User,
)
from lxdpy.services.storage.service import StorageService

__all__ = ["DEFAULT_POOL", "DIR", "OVERLAY", "Holding", "Pool", "PoolResources", "Settings", "StorageService", "User"]
