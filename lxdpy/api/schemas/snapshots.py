"""Snapshots of instances on the wire."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from lxdpy.api.schemas.times import ZERO, rfc3339
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services.instances import Snapshot

_UNKNOWN_SIZE = -1


class _Lenient(BaseModel):
    """Clients send fields of newer and older LXDs: those that lxdpy does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


class InstanceSnapshotsPost(_Lenient):
    """A new snapshot."""

    name: str | None = Field(None, description="absent: made after `snapshots.pattern`")
    stateful: bool | None = None
    expires_at: datetime | None = Field(
        None, description="absent: after `snapshots.expiry`; 0001-01-01T00:00:00Z: never"
    )


class InstanceSnapshotPut(_Lenient):
    """What a client may write of a snapshot."""

    expires_at: datetime | None = Field(None, description="absent: as it is; 0001-01-01T00:00:00Z: never")


class InstanceSnapshotPost(_Lenient):
    """Another name for a snapshot."""

    name: str | None = None
    migration: bool | None = None


class InstanceSnapshot(BaseModel):
    """An instance as it was at one moment."""

    name: str
    architecture: str
    config: dict[str, str]
    created_at: str
    devices: dict[str, dict[str, str]]
    ephemeral: bool
    expanded_config: dict[str, str]
    expanded_devices: dict[str, dict[str, str]]
    expires_at: str
    last_used_at: str
    profiles: list[str]
    size: int
    stateful: bool


def check_stateless(body: InstanceSnapshotsPost) -> None:
    """Raises UnsupportedError for a snapshot of memory."""
    if body.stateful:
        raise UnsupportedError("Cannot take a stateful snapshot: containers are not checkpointed")


def new_name(body: InstanceSnapshotPost) -> str:
    """The name that a rename asks for. Raises InvalidRequestError, UnsupportedError for a move to another server."""
    if body.migration:
        raise UnsupportedError("Cannot move a snapshot to another server: migration is not offered")
    if not body.name:
        raise InvalidRequestError("Cannot rename a snapshot: the request has no name")
    return body.name


def seconds(moment: datetime) -> float:
    """A moment as seconds since the epoch; Go's zero time, and all that was before the epoch, is 0."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())


def render(snapshot: Snapshot) -> dict[str, object]:
    """A snapshot as clients read it."""
    record = snapshot.record
    return {
        "name": record.name,
        "architecture": record.taken.architecture,
        "config": record.taken.config,
        "created_at": rfc3339(record.created_at),
        "devices": record.taken.devices,
        "ephemeral": record.taken.ephemeral,
        "expanded_config": snapshot.expanded_config,
        "expanded_devices": snapshot.expanded_devices,
        "expires_at": rfc3339(record.expires_at) if record.expires_at else ZERO,
        # As LXD: of an instance's start its snapshots know nothing, and their size only some of its pools tell.
        "last_used_at": ZERO,
        "profiles": record.taken.profiles,
        "size": _UNKNOWN_SIZE,
        "stateful": False,
    }


def writable(snapshot: Snapshot) -> dict[str, object]:
    """The part that ETags cover."""
    return {"expires_at": snapshot.record.expires_at}
