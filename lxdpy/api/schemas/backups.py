"""Backups of instances on the wire."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from lxdpy.api.schemas.times import ZERO, rfc3339
from lxdpy.db.backups import BackupRecord
from lxdpy.errors import UnsupportedError
from lxdpy.services import compression
from lxdpy.services.instances import NewBackup


class _Lenient(BaseModel):
    """Clients send fields of newer and older LXDs: those that lxdpy does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


class InstanceBackupsPost(_Lenient):
    """A new backup."""

    name: str | None = Field(None, description="absent: the server picks one")
    expires_at: datetime | None = Field(None, description="when it is deleted by itself; absent: never")
    instance_only: bool | None = Field(None, description="without the snapshots")
    container_only: bool | None = Field(None, description="the older name of `instance_only`")
    optimized_storage: bool | None = None
    compression_algorithm: str | None = Field(None, description="gzip, xz, bzip2, zstd, lzma, none; -LEVEL")


class InstanceBackupPost(_Lenient):
    """Another name for a backup."""

    name: str


class InstanceBackup(BaseModel):
    """A backup of an instance."""

    name: str
    created_at: str
    expires_at: str
    instance_only: bool
    container_only: bool
    optimized_storage: bool


def new_backup(body: InstanceBackupsPost, instance: str, name: str, default_compression: str) -> NewBackup:
    """What a POST asks for. Raises InvalidRequestError, UnsupportedError."""
    if body.optimized_storage:
        raise UnsupportedError("Cannot make an optimized backup: the storage has no format of its own")
    kind = compression.parse(body.compression_algorithm or default_compression)
    if kind.name == "squashfs":
        raise UnsupportedError('Cannot compress a backup by "squashfs": it is a tarball')
    expires_at = body.expires_at.timestamp() if body.expires_at is not None and body.expires_at.year > 1 else 0.0
    return NewBackup(instance, name, expires_at, bool(body.instance_only or body.container_only), kind)


def render(backup: BackupRecord) -> dict[str, object]:
    """A backup as clients read it."""
    return {
        "name": backup.name,
        "created_at": rfc3339(backup.created_at),
        "expires_at": rfc3339(backup.expires_at) if backup.expires_at else ZERO,
        "instance_only": backup.instance_only,
        "container_only": backup.instance_only,
        "optimized_storage": False,
    }
