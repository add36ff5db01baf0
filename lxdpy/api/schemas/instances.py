"""Instances on the wire: LXD's fields, and the extensions that api/extensions.md lists."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lxdpy.api.schemas import instance_types
from lxdpy.api.schemas.backups import render as render_backup
from lxdpy.api.schemas.snapshots import render as render_snapshot
from lxdpy.api.schemas.times import NEVER, rfc3339
from lxdpy.db.backups import BackupRecord
from lxdpy.drivers.base import InterfaceUsage, Usage
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.project import qualify
from lxdpy.services.images import ImageSource
from lxdpy.services.instances import ExecRequest, InstanceSettings, InstanceStatus, NewCopy, NewInstance, Snapshot, Stop
from lxdpy.services.instances import Instance as InstanceModel
from lxdpy.services.instances import InstanceState as StateModel
from lxdpy.services.instances.settings import parse_signal
from lxdpy.services.instances.volatile import is_hwaddr, is_noted

INSTANCE_POOL = "default"
"""The pool that all instances are in."""

STATUS_CODES: Mapping[InstanceStatus, int] = {
    InstanceStatus.STOPPED: 102,
    InstanceStatus.RUNNING: 103,
    InstanceStatus.STARTING: 106,
    InstanceStatus.STOPPING: 107,
    InstanceStatus.FROZEN: 110,
}

Config = dict[str, str]
Devices = dict[str, dict[str, str]]

# LXD's clients may send null where LXD, being written in Go, reads nothing.
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Texts = Annotated[dict[str, Text], BeforeValidator(lambda value: {} if value is None else value)]


class Lenient(BaseModel):
    """Clients send fields of newer and older LXDs: those that lxdpy does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


class InstanceSource(Lenient):
    """Where an instance's root file system comes from."""

    type: str = Field("image", description='"image"; "copy" of an instance or a snapshot; "none": of nothing')
    mode: str | None = Field(None, description='"pull", or absent')
    protocol: str | None = Field(
        None,
        description='"oci": of a registry; "simplestreams": of an image server; absent: an image that is here',
    )
    server: str | None = Field(None, description="the registry, e.g. https://docker.io; absent: the default registry")
    alias: str | None = Field(None, description="alias of an image that is here, or an image reference in a registry")
    fingerprint: str | None = Field(None, description="fingerprint, or a prefix of it, of an image that is here")
    source: str | None = Field(None, description="what to copy: NAME, or NAME/SNAPSHOT")
    project: str | None = Field(None, description="where what to copy is; absent: in the project of the new instance")
    instance_only: bool | None = Field(None, description="copy without the snapshots")
    container_only: bool | None = Field(None, description="the older name of instance_only")
    refresh: bool | None = Field(None, description="an instance of that name that is here becomes the same")
    image_type: str | None = Field(None, description='"container", or absent')
    certificate: str | None = Field(None, description="PEM, to trust an image server by instead of the system's")


class InstancesPost(Lenient):
    """A new instance."""

    name: str | None = Field(None, description="absent: the server picks one")
    source: InstanceSource = Field(default_factory=lambda: InstanceSource.model_validate({}))
    type: str | None = Field(None, description='"container", or absent')
    architecture: str | None = None
    description: str | None = None
    ephemeral: bool | None = None
    stateful: bool | None = None
    config: Texts | None = None
    devices: dict[str, Texts] | None = None
    profiles: list[str] | None = Field(None, description="absent: those that its image names")
    start: bool | None = Field(None, description="start it once it is made")
    instance_type: str | None = Field(None, description="cCPUS, mGB or cCPUS-mGB: limits, where `config` has none")


class InstancePut(Lenient):
    """What a client may write of an instance."""

    architecture: str | None = None
    description: str | None = None
    ephemeral: bool | None = None
    stateful: bool | None = None
    config: Texts | None = None
    devices: dict[str, Texts] | None = None
    profiles: list[str] | None = None
    restore: str | None = Field(None, description="a snapshot: become what it is, and ignore all else")


class InstancePatch(InstancePut):
    """The part of `InstancePut` to change; maps are merged, an empty value removes a key."""


class InstancePost(Lenient):
    """Another name for an instance, or another project; another server or pool is not offered."""

    name: str | None = None
    migration: bool | None = None
    live: bool | None = None
    instance_only: bool | None = None
    container_only: bool | None = None
    target: dict[str, Any] | None = None
    pool: str | None = None
    project: str | None = None


class InstanceStatePut(Lenient):
    """A change of what an instance does."""

    action: str = Field(description="start, stop, restart, freeze or unfreeze")
    timeout: Annotated[int, Field(ge=-1, le=2**31)] | None = Field(
        None, description="seconds that a graceful stop may take; 0: kill at once; -1 or absent: as long as it takes"
    )
    force: bool | None = Field(None, description="kill at once")
    stateful: bool | None = None
    signal: str | int | None = Field(None, description="extension: signal of a graceful stop")
    kill: bool | None = Field(None, description="extension: kill when the time of a graceful stop is over")


class InstanceExecPost(Lenient):
    """A command to run in an instance."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    command: list[str]
    environment: dict[str, str] | None = None
    wait_for_websocket: bool | None = Field(None, alias="wait-for-websocket")
    record_output: bool | None = Field(None, alias="record-output")
    interactive: bool | None = None
    width: Annotated[int, Field(ge=0, le=65535)] | None = None
    height: Annotated[int, Field(ge=0, le=65535)] | None = None
    user: Annotated[int, Field(ge=0, lt=2**32 - 1)] | None = None
    group: Annotated[int, Field(ge=0, lt=2**32 - 1)] | None = None
    cwd: str | None = None


class InstanceConsolePost(Lenient):
    """How to attach to a console."""

    type: str | None = Field(None, description='"console", or absent')
    width: Annotated[int, Field(ge=0, le=65535)] | None = None
    height: Annotated[int, Field(ge=0, le=65535)] | None = None
    force: bool | None = Field(None, description="replace the client that is attached")


class Instance(BaseModel):
    """An instance."""

    name: str
    type: Literal["container"]
    architecture: str
    description: str
    status: str
    status_code: int
    ephemeral: bool
    stateful: bool
    config: Config
    devices: Devices
    profiles: list[str]
    expanded_config: Config
    expanded_devices: Devices
    created_at: str
    last_used_at: str
    location: str
    project: str
    backups: list[dict[str, Any]] | None = Field(None, description="with recursion")
    snapshots: list[dict[str, Any]] | None = Field(None, description="with recursion")
    state: dict[str, Any] | None = Field(None, description="with recursion")


class InstanceState(BaseModel):
    """What an instance does and uses right now."""

    status: str
    status_code: int
    pid: int
    processes: int
    cpu: dict[str, int]
    memory: dict[str, int]
    disk: dict[str, dict[str, int]]
    network: dict[str, dict[str, Any]] | None
    started_at: str | None
    exit_code: int | None
    exit_signal: int | None


class InstanceExit(BaseModel):
    """How an instance ended; `status` says whether it has."""

    status: str
    status_code: int
    exit_code: int | None
    exit_signal: int | None


def new_instance(body: InstancesPost, project: str) -> NewInstance:
    """What a POST asks for. Raises InvalidRequestError, UnsupportedError."""
    if body.type not in (None, "", "container"):
        raise InvalidRequestError(f'Cannot create an instance of type "{body.type}": only "container" is supported')
    if body.stateful:
        raise InvalidRequestError("Cannot create a stateful instance: containers are not checkpointed")
    return NewInstance(
        name=qualify(project, body.name or ""),
        source=ImageSource() if body.source.type == "none" else image_source(body.source),
        settings=settings(body.model_copy(update={"config": _limited(body)})),
        start=bool(body.start),
        image_profiles=body.profiles is None,
    )


def new_copy(body: InstancesPost, project: str) -> NewCopy:
    """The copy in `project` that a POST asks for. Raises InvalidRequestError."""
    if body.type not in (None, "", "container"):
        raise InvalidRequestError(f'Cannot create an instance of type "{body.type}": only "container" is supported')
    if body.stateful:
        raise InvalidRequestError("Cannot copy an instance statefully: containers are not checkpointed")
    source, _, snapshot = (body.source.source or "").partition("/")
    if not source:
        raise InvalidRequestError("Must specify a source instance")
    return NewCopy(
        name=qualify(project, body.name or ""),
        source=qualify(body.source.project or project, source),
        snapshot=snapshot,
        instance_only=bool(body.source.instance_only or body.source.container_only),
        refresh=bool(body.source.refresh),
        description=body.description or "",
        ephemeral=bool(body.ephemeral),
        config=_limited(body),
        devices=body.devices or {},
        profiles=None if body.profiles is None else tuple(body.profiles),
        start=bool(body.start),
    )


def _limited(body: InstancesPost) -> dict[str, str]:
    """The configuration, with the limits of the instance type that it does not have itself."""
    return {**(instance_types.limits(body.instance_type) if body.instance_type else {}), **(body.config or {})}


def new_name(body: InstancePost, project: str) -> str:
    """The name below the API that a rename, or a move within this server, asks for an instance of `project`.

    Raises InvalidRequestError, UnsupportedError for a move elsewhere.
    """
    if body.target or (body.migration and not (body.pool or body.project)):
        raise UnsupportedError("Cannot move an instance to another server: migration is not offered")
    if body.pool not in (None, "", INSTANCE_POOL):
        raise UnsupportedError(f'Cannot move an instance to pool "{body.pool}": all are in pool "{INSTANCE_POOL}"')
    if not body.name:
        raise InvalidRequestError("Cannot rename an instance: the request has no name")
    return qualify(body.project or project, body.name)


def image_source(body: InstanceSource) -> ImageSource:
    """Which image a source means. Raises InvalidRequestError, UnsupportedError."""
    if body.type != "image":
        raise InvalidRequestError(
            f'Cannot create an instance from source type "{body.type}": only "image", "copy" and "none" are supported'
        )
    if body.mode not in (None, "", "pull"):
        raise InvalidRequestError(f'Cannot fetch an image in mode "{body.mode}": only "pull" is supported')
    if body.image_type not in (None, "", "container"):
        raise UnsupportedError(f'Cannot fetch an image of type "{body.image_type:.100}": only containers are supported')
    return ImageSource(
        fingerprint=body.fingerprint or "",
        alias=body.alias or "",
        server=body.server or "",
        protocol=body.protocol or "",
        certificate=body.certificate or "",
    )


def settings(body: InstancesPost | InstancePut) -> InstanceSettings:
    """The writable part as a whole; what is absent is empty, and of a new instance its default."""
    default = ("default",) if isinstance(body, InstancesPost) else ()
    return InstanceSettings(
        architecture=body.architecture or "",
        description=body.description or "",
        ephemeral=bool(body.ephemeral),
        config=with_values(body.config or {}),
        devices=devices_with_values(body.devices or {}),
        profiles=default if body.profiles is None else tuple(body.profiles),
    )


def with_values(config: Mapping[str, str]) -> dict[str, str]:
    """A configuration without the keys that an empty value removes; a variable of the environment may be empty."""
    return {key: value for key, value in config.items() if value or key.startswith("environment.")}


def devices_with_values(devices: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Devices without the keys that an empty value removes."""
    return {name: {key: value for key, value in device.items() if value} for name, device in devices.items()}


def patched(current: InstanceModel, body: InstancePatch) -> InstanceSettings:
    """The writable part with `body`'s changes."""
    record = current.record
    devices = {**record.devices, **(body.devices or {})}
    config = {**record.config, **(body.config or {})}
    return InstanceSettings(
        architecture=body.architecture or "",
        description=record.description if body.description is None else body.description,
        ephemeral=record.ephemeral if body.ephemeral is None else body.ephemeral,
        config=with_values(config),
        devices={name: device for name, device in devices_with_values(devices).items() if device},
        profiles=record.profiles if body.profiles is None else tuple(body.profiles),
    )


def stop(body: InstanceStatePut) -> Stop:
    """How to stop. Raises InvalidRequestError for a signal that does not exist."""
    return Stop(
        # LXD's clients mean force by a time of zero.
        force=bool(body.force) or body.timeout == 0,
        timeout_s=None if body.timeout is None or body.timeout < 0 else float(body.timeout),
        signal=None if body.signal in (None, "") else parse_signal(str(body.signal)),
        kill=bool(body.kill),
    )


def exec_request(body: InstanceExecPost) -> ExecRequest:
    """The command that a POST asks for."""
    return ExecRequest(
        argv=tuple(body.command),
        environment=body.environment or {},
        interactive=bool(body.interactive),
        width=body.width or 0,
        height=body.height or 0,
        wait_for_websocket=bool(body.wait_for_websocket),
        record_output=bool(body.record_output),
        uid=body.user,
        gid=body.group,
        cwd=body.cwd or "",
    )


def check_console_type(body: InstanceConsolePost) -> None:
    """Raises InvalidRequestError for a console that no container has."""
    if body.type == "vga":
        raise InvalidRequestError("VGA console is only supported by virtual machines")
    if body.type not in (None, "", "console"):
        raise InvalidRequestError(f'Unknown console type "{body.type:.100}"')


def render(instance: InstanceModel) -> dict[str, object]:
    """An instance as clients read it, without backups, snapshots and state: pylxd would take null for its own methods
    of these names."""
    record = instance.record
    return {
        "name": record.plain_name,
        "type": "container",
        "architecture": record.architecture,
        "description": record.description,
        "status": instance.status.value,
        "status_code": STATUS_CODES[instance.status],
        "ephemeral": record.ephemeral,
        "stateful": False,
        "config": record.config,
        "devices": record.devices,
        "profiles": record.profiles,
        "expanded_config": instance.expanded_config,
        "expanded_devices": instance.expanded_devices,
        "created_at": rfc3339(record.created_at),
        "last_used_at": rfc3339(record.last_used_at) if record.last_used_at else NEVER,
        "location": "none",
        "project": record.project,
    }


def render_full(
    instance: InstanceModel, snapshots: Sequence[Snapshot], backups: Sequence[BackupRecord]
) -> dict[str, object]:
    """An instance with all but its state."""
    return {
        **render(instance),
        "backups": [render_backup(backup) for backup in backups] or None,
        "snapshots": [render_snapshot(snapshot) for snapshot in snapshots] or None,
    }


def writable(instance: InstanceModel) -> dict[str, object]:
    """The part that ETags cover: what a client may write."""
    record = instance.record
    return {
        "architecture": record.architecture,
        "config": {key: value for key, value in record.config.items() if not is_noted(key) and not is_hwaddr(key)},
        "description": record.description,
        "devices": record.devices,
        "ephemeral": record.ephemeral,
        "profiles": record.profiles,
    }


def render_state(state: StateModel) -> dict[str, object]:
    """An instance's state as clients read it."""
    usage = state.usage
    return {
        "status": state.status.value,
        "status_code": STATUS_CODES[state.status],
        "pid": state.pid,
        "processes": usage.processes if usage else 0,
        "cpu": {"usage": usage.cpu_ns if usage else 0},
        "memory": _memory(usage),
        "disk": {},
        "network": {card.name: _interface(card) for card in usage.interfaces} if usage else None,
        "started_at": rfc3339(state.started_at) if state.started_at else None,
        "exit_code": state.exit.code if state.exit else None,
        "exit_signal": state.exit.signal if state.exit else None,
    }


def render_exit(state: StateModel) -> dict[str, object]:
    """How an instance ended."""
    return {
        "status": state.status.value,
        "status_code": STATUS_CODES[state.status],
        "exit_code": state.exit.code if state.exit else None,
        "exit_signal": state.exit.signal if state.exit else None,
    }


def _memory(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {"usage": 0, "usage_peak": 0, "swap_usage": 0, "swap_usage_peak": 0}
    return {
        "usage": usage.memory_bytes,
        "usage_peak": usage.memory_peak_bytes,
        "swap_usage": usage.swap_bytes,
        "swap_usage_peak": usage.swap_peak_bytes,
    }


def _interface(card: InterfaceUsage) -> dict[str, object]:
    return {
        "addresses": [
            {"family": entry.family, "address": entry.address, "netmask": str(entry.prefix), "scope": entry.scope}
            for entry in card.addresses
        ],
        "counters": card.counters,
        "hwaddr": card.hwaddr,
        "host_name": card.host_name,
        "mtu": card.mtu,
        "state": "up" if card.up else "down",
        "type": card.kind,
    }
