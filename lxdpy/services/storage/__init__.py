"""Storage: pools and custom volumes."""

from lxdpy.services.storage.backups import NewVolumeBackup
from lxdpy.services.storage.model import (
    DEFAULT_POOL,
    DIR,
    OVERLAY,
    Holding,
    Pool,
    PoolResources,
    Settings,
    User,
    Volume,
    VolumeKey,
    VolumeSource,
)
from lxdpy.services.storage.service import StorageService
from lxdpy.services.storage.shelf import volume_path

__all__ = [
    "DEFAULT_POOL",
    "DIR",
    "OVERLAY",
    "Holding",
    "NewVolumeBackup",
    "Pool",
    "PoolResources",
    "Settings",
    "StorageService",
    "User",
    "Volume",
    "VolumeKey",
    "VolumeSource",
    "volume_path",
]
