"""Instances as the rest of lxdpy sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.drivers.base import ExitStatus, Usage
from lxdpy.services.images import ImageSource
from lxdpy.services.storage import DEFAULT_POOL

CREATED = {"type": "container", "storage-pool": DEFAULT_POOL}
"""What the event of a new instance says of it."""


class InstanceStatus(StrEnum):
    """What an instance does right now, in LXD's words."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    FROZEN = "Frozen"
    STARTING = "Starting"
    STOPPING = "Stopping"


class Action(StrEnum):
    """What `PUT /1.0/instances/NAME/state` can ask for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: its record, what it inherits, and what it does."""

    record: InstanceRecord
    expanded_config: Mapping[str, str]
    expanded_devices: Devices
    status: InstanceStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot: its record, and what the instance would inherit."""

    record: SnapshotRecord
    expanded_config: Mapping[str, str]
    expanded_devices: Devices


@dataclass(frozen=True, slots=True)
class InstanceState:
    """Numbers of one instance at one moment; `usage` only while it runs."""

    status: InstanceStatus
    pid: int
    started_at: float | None
    exit: ExitStatus | None
    """How it ended last; None while it runs and when it never ran."""
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """What a client may write."""

    architecture: str = ""
    description: str = ""
    ephemeral: bool = False
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)
    profiles: tuple[str, ...] = ("default",)


@dataclass(frozen=True, slots=True)
class NewInstance:
    """A request to make an instance. `name` tells the project; when the plain name in it is empty, one is picked."""

    name: str
    source: ImageSource
    settings: InstanceSettings
    start: bool = False
    image_profiles: bool = False
    """Its profiles are those that its image names, and not what `settings` says."""


@dataclass(frozen=True, slots=True)
class NewCopy:
    """A request to copy an instance or a snapshot; without a name it gets one."""

    name: str
    source: str
    snapshot: str = ""
    """Copy this snapshot of `source`; "" is the instance as it is."""
    instance_only: bool = False
    """Without the snapshots."""
    refresh: bool = False
    """Make an instance of that name that is here the same as the source."""
    description: str = ""
    ephemeral: bool = False
    config: Mapping[str, str] = field(default_factory=dict)
    """Wins over the source's, as do `devices`."""
    devices: Devices = field(default_factory=dict)
    profiles: tuple[str, ...] | None = None
    """None: those of the source."""
    start: bool = False
