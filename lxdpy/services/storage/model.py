"""Storage pools and volumes as the rest of lxdpy sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lxdpy.db.storage import PoolRecord

DEFAULT_POOL = "default"
"""The pool in the state directory that holds all instances and images; there from the first start."""
OVERLAY = "overlay"
DIR = "dir"

Devices = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Pool:
    """A storage pool."""

    record: PoolRecord
    source: Path
    """Where it lies."""
    used_by: tuple[str, ...]
    """API paths."""
    available: bool
    """Whether its directory is there: that of an administrator may be on a disk that is not mounted."""


@dataclass(frozen=True, slots=True)
class PoolResources:
    """Numbers of the file system that a pool lies on."""

    space_total: int
    space_used: int
    inodes_total: int
    inodes_used: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client may write of a pool, a volume or a snapshot."""

    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class User:
    """Something whose devices may need pools and volumes: an instance or a profile."""

    path: str
    """Its path in the API."""
    project: str
    devices: Devices
    running: bool = False
    is_profile: bool = False
    snapshots: tuple[str, ...] = ()
    """API paths of its snapshots, which lie where it does."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume: a custom one, or an instance or image of the pool that holds them all."""

    pool: str
    kind: str
    """`custom`, `container` or `image`."""
    project: str
    name: str
    settings: Settings
    created_at: float
    used_by: tuple[str, ...]
    """API paths."""
    snapshot: str = ""
    """Its name, when this is a snapshot of the volume."""
    expires_at: float = 0.0
    """Of a snapshot; 0: never."""


@dataclass(frozen=True, slots=True)
class VolumeKey:
    """What names a custom volume."""

    pool: str
    project: str
    name: str


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """What a new volume is a copy of: a volume, or one of its snapshots."""

    key: VolumeKey
    snapshot: str = ""
    with_snapshots: bool = True


@dataclass(frozen=True, slots=True)
class Holding:
    """An instance or an image, as a volume of the pool that holds them all."""

    kind: str
    """`container` or `image`."""
    project: str
    name: str
    path: str
    """Its path in the API."""
    created_at: float
