"""Storage pools and volumes on the wire."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lxdpy.api.schemas.times import ZERO, rfc3339
from lxdpy.db.storage import VolumeBackupRecord
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services import compression
from lxdpy.services.storage import NewVolumeBackup, Settings, VolumeKey, VolumeSource
from lxdpy.services.storage import Pool as PoolModel
from lxdpy.services.storage import PoolResources as ResourcesModel
from lxdpy.services.storage import Volume as VolumeModel

# LXD's clients may send null where LXD, being written in Go, reads nothing.
_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
_Texts = Annotated[dict[str, _Text], BeforeValidator(lambda value: {} if value is None else value)]


class _Lenient(BaseModel):
    """Clients send fields of newer and older LXDs: those that lxdpy does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


class StoragePoolsPost(_Lenient):
    """A new pool."""

    name: str
    driver: str = Field(description='"dir"')
    description: _Text = ""
    config: _Texts = {}


class StoragePut(_Lenient):
    """What a client may write of a pool."""

    description: _Text = ""
    config: _Texts = {}


class StoragePatch(_Lenient):
    """The part of `StoragePut` to change; an empty value removes a key."""

    description: str | None = None
    config: _Texts = {}


class StoragePool(BaseModel):
    """A storage pool."""

    name: str
    driver: str
    description: str
    config: dict[str, str]
    status: str
    used_by: list[str]
    locations: list[str]


class Resource(BaseModel):
    """How much of something there is, and is taken."""

    used: int
    total: int


class StoragePoolResources(BaseModel):
    """Numbers of a pool's file system."""

    space: Resource
    inodes: Resource


class StorageVolumeSource(_Lenient):
    """What a new volume is a copy of."""

    type: str = Field(description='"copy"')
    name: str | None = Field(None, description="VOLUME or VOLUME/SNAPSHOT")
    pool: str | None = Field(None, description="absent: that of the new volume")
    project: str | None = Field(None, description="absent: that of the request")
    volume_only: bool | None = Field(None, description="without its snapshots")
    refresh: bool | None = None


class StorageVolumesPost(_Lenient):
    """A new custom volume."""

    name: str
    type: str | None = Field(None, description='"custom", or absent')
    content_type: str | None = Field(None, description='"filesystem", or absent')
    description: _Text = ""
    config: _Texts = {}
    source: StorageVolumeSource | None = None


class StorageVolumePut(StoragePut):
    """What a client may write of a volume, or a snapshot to restore."""

    restore: str | None = Field(None, description="a snapshot, whose files the volume gets")


class StorageVolumePost(_Lenient):
    """A volume's new name, or pool."""

    name: str
    pool: str | None = None
    project: str | None = None
    migration: bool | None = None
    volume_only: bool | None = Field(None, description="moves to another pool without its snapshots")


class StorageVolumeSnapshotsPost(_Lenient):
    """A new snapshot."""

    name: str | None = Field(None, description="absent: the server picks one")
    description: _Text = ""
    expires_at: datetime | None = Field(None, description="absent: as the volume's `snapshots.expiry` says")


class StorageVolumeBackupsPost(_Lenient):
    """A new backup."""

    name: str | None = Field(None, description="absent: the server picks one")
    expires_at: datetime | None = Field(None, description="when it is deleted by itself; absent: never")
    volume_only: bool | None = Field(None, description="without the snapshots")
    optimized_storage: bool | None = None
    compression_algorithm: str | None = Field(None, description="gzip, xz, bzip2, zstd, lzma, none; -LEVEL")


class StorageVolumeBackupPost(_Lenient):
    """Another name for a backup."""

    name: str


class StorageVolumeBackup(BaseModel):
    """A backup of a volume."""

    name: str
    created_at: str
    expires_at: str
    volume_only: bool
    optimized_storage: bool


class StorageVolumeSnapshotPost(_Lenient):
    """A snapshot's new name."""

    name: str


class StorageVolumeSnapshotPut(_Lenient):
    """What a client may write of a snapshot."""

    description: str | None = None
    expires_at: datetime | None = Field(None, description="absent: as it is; 0001-01-01T00:00:00Z: never")


class StorageVolume(BaseModel):
    """A volume."""

    name: str
    type: str
    content_type: str
    description: str
    config: dict[str, str]
    used_by: list[str]
    location: str
    project: str
    created_at: str


class StorageVolumeSnapshot(BaseModel):
    """A snapshot of a volume."""

    name: str
    content_type: str
    description: str
    config: dict[str, str]
    created_at: str
    expires_at: str


class StorageVolumeUsage(BaseModel):
    """Bytes."""

    used: int


class StorageVolumeState(BaseModel):
    """What a volume takes on its disk."""

    usage: StorageVolumeUsage


def volume_source(body: StorageVolumesPost, pool: str, project: str) -> VolumeSource | None:
    """What a new volume of `pool` is to be a copy of; `project` is the source's. Raises InvalidRequestError,
    UnsupportedError."""
    if body.type not in (None, "", "custom"):
        raise InvalidRequestError(f'Storage volumes of type "{body.type:.100}" cannot be created with the storage API')
    if body.content_type not in (None, "", "filesystem"):
        raise UnsupportedError(
            f'Cannot create volume "{body.name:.200}": content type "{body.content_type:.100}" is not supported'
        )
    source = body.source
    if source is None or source.type in ("", "none"):
        return None
    if source.type != "copy":
        raise UnsupportedError(f'Cannot create volume "{body.name:.200}": source type "{source.type:.100}"')
    if source.refresh:
        raise UnsupportedError(f'Cannot refresh volume "{body.name:.200}": copies are made whole')
    volume, _, snapshot = (source.name or "").partition("/")
    key = VolumeKey(source.pool or pool, project, volume)
    return VolumeSource(key, snapshot, with_snapshots=not source.volume_only)


def expiry_of(moment: datetime | None) -> float | None:
    """When a snapshot is to expire: 0 for never, which Go says by its zero time; None when nothing is said."""
    if moment is None:
        return None
    if moment.year <= 1:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def put(body: StoragePut | StoragePoolsPost | StorageVolumesPost) -> Settings:
    """The writable part as a whole."""
    return Settings(body.description, body.config)


def patched(current: Settings, body: StoragePatch) -> Settings:
    """The writable part with `body`'s changes."""
    config = {**current.config, **body.config}
    return Settings(
        current.description if body.description is None else body.description,
        {key: value for key, value in config.items() if value},
    )


def pool_settings(pool: PoolModel) -> Settings:
    """What a client may write of a pool, as it is now."""
    return Settings(pool.record.description, {**pool.record.config, "source": str(pool.source)})


def writable(settings: Settings) -> dict[str, object]:
    """The part that ETags cover."""
    return {"description": settings.description, "config": dict(settings.config)}


def render_pool(pool: PoolModel) -> dict[str, object]:
    """A pool as clients read it."""
    settings = pool_settings(pool)
    return {
        "name": pool.record.name,
        "driver": pool.record.driver,
        "description": settings.description,
        "config": dict(settings.config),
        "status": "Created" if pool.available else "Unavailable",
        "used_by": list(pool.used_by),
        "locations": ["none"],
    }


def render_volume(volume: VolumeModel) -> dict[str, object]:
    """A volume as clients read it; among volumes, a snapshot is called VOLUME/SNAPSHOT."""
    return {
        "name": f"{volume.name}/{volume.snapshot}" if volume.snapshot else volume.name,
        "type": volume.kind,
        "content_type": "filesystem",
        "description": volume.settings.description,
        "config": dict(volume.settings.config),
        "used_by": list(volume.used_by),
        "location": "none",
        "project": volume.project,
        "created_at": rfc3339(volume.created_at),
    }


def render_snapshot(volume: VolumeModel) -> dict[str, object]:
    """A snapshot as clients read it."""
    return {
        "name": volume.snapshot,
        "content_type": "filesystem",
        "description": volume.settings.description,
        "config": dict(volume.settings.config),
        "created_at": rfc3339(volume.created_at),
        "expires_at": rfc3339(volume.expires_at) if volume.expires_at else ZERO,
    }


def new_backup(body: StorageVolumeBackupsPost, key: VolumeKey, name: str, default_compression: str) -> NewVolumeBackup:
    """What a POST asks for. Raises InvalidRequestError, UnsupportedError."""
    if body.optimized_storage:
        raise UnsupportedError("Cannot make an optimized backup: the storage has no format of its own")
    kind = compression.parse(body.compression_algorithm or default_compression)
    if kind.name == "squashfs":
        raise UnsupportedError('Cannot compress a backup by "squashfs": it is a tarball')
    return NewVolumeBackup(key, name, expiry_of(body.expires_at) or 0.0, bool(body.volume_only), kind)


def render_backup(backup: VolumeBackupRecord) -> dict[str, object]:
    """A backup as clients read it."""
    return {
        "name": backup.name,
        "created_at": rfc3339(backup.created_at),
        "expires_at": rfc3339(backup.expires_at) if backup.expires_at else ZERO,
        "volume_only": backup.volume_only,
        "optimized_storage": False,
    }


def render_resources(resources: ResourcesModel) -> dict[str, object]:
    """A pool's numbers as clients read them."""
    return {
        "space": {"used": resources.space_used, "total": resources.space_total},
        "inodes": {"used": resources.inodes_used, "total": resources.inodes_total},
    }
