"""What a backup says of its instance: index.yaml and backup.yaml, as LXD writes and reads them.

    name, backend, pool, snapshots (names), optimized, type
    config:
      container         an instance as the API shows it
      snapshots         its snapshots, likewise
      pool, profiles, volume, volume_snapshots

Whoever made a backup that is read was not trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.db.profiles import ProfileRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.image_metadata import load_document

MAX_BYTES = 4 << 20
_ZERO = "0001-01-01T00:00:00Z"
_NEVER = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Described:
    """An instance, or a snapshot, as an index describes it."""

    name: str
    architecture: str
    description: str
    ephemeral: bool
    config: Mapping[str, str]
    devices: Devices
    profiles: tuple[str, ...]
    created_at: float
    expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Index:
    """index.yaml."""

    instance: Described
    snapshots: tuple[Described, ...]


Expanded = tuple[Mapping[str, str], Devices]


def describe(
    record: InstanceRecord,
    expanded: Expanded,
    snapshots: Sequence[tuple[SnapshotRecord, Expanded]],
    profiles: Sequence[ProfileRecord],
    source: str,
) -> dict[str, object]:
    """backup.yaml of an instance, and the greater part of index.yaml; `source` is where its pool lies."""
    volume = {"config": {}, "description": "", "content_type": "filesystem", "created_at": _ZERO}
    return {
        "container": {
            **_described(record, expanded),
            "description": record.description,
            "created_at": _time(record.created_at),
            "last_used_at": _time(record.last_used_at) if record.last_used_at else _NEVER,
            "name": record.plain_name,
            "status": "Stopped",
            "status_code": 102,
            "location": "none",
            "type": "container",
            "project": record.project,
        },
        "snapshots": [
            {
                **_described(snapshot.taken, inherited),
                "name": snapshot.name,
                "created_at": _time(snapshot.created_at),
                "expires_at": _time(snapshot.expires_at) if snapshot.expires_at else _ZERO,
                "last_used_at": _ZERO,
                "size": -1,
            }
            for snapshot, inherited in snapshots
        ],
        # LXD reads what pool this was, and puts its own in its place.
        "pool": {
            "config": {"source": source},
            "description": "",
            "name": "default",
            "driver": "dir",
            "used_by": [],
            "status": "Created",
            "locations": ["none"],
        },
        "profiles": [
            {
                "config": dict(profile.config),
                "description": profile.description,
                "devices": _plain(profile.devices),
                "name": profile.name,
                "used_by": [],
            }
            for profile in profiles
        ],
        "volume": {
            **volume,
            "name": record.plain_name,
            "type": "container",
            "used_by": [],
            "location": "none",
            "project": record.project,
        },
        "volume_snapshots": [{**volume, "name": snapshot.name, "expires_at": _ZERO} for snapshot, _ in snapshots],
    }


def index(name: str, snapshots: Sequence[str], config: Mapping[str, object]) -> dict[str, object]:
    """index.yaml."""
    return {
        "name": name,
        "backend": "dir",
        "pool": "default",
        "snapshots": list(snapshots),
        "optimized": False,
        "optimized_header": False,
        "type": "container",
        "config": dict(config),
    }


def dump(document: Mapping[str, object]) -> str:
    """A document as YAML."""
    import yaml  # as in image_metadata

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def parse(data: bytes) -> Index:
    """Read index.yaml. Raises InvalidRequestError, UnsupportedError."""
    document = _mapping(load_document(data, "index.yaml", MAX_BYTES), "index.yaml")
    if _text(document.get("type", "container"), "type") not in ("container", ""):
        raise UnsupportedError("Cannot import the backup: it is of no container")
    if _text(document.get("optimized", "false"), "optimized") == "true":
        raise UnsupportedError("Cannot import the backup: it is in a storage driver's own format")
    config = _mapping(document.get("config"), "config")
    container = _mapping(config.get("container"), "config.container")
    snapshots = config.get("snapshots") or []
    if not isinstance(snapshots, list):
        raise InvalidRequestError("Invalid index.yaml: config.snapshots is no list")
    name = _text(container.get("name") or document.get("name", ""), "name")
    taken = [_mapping(each, "a snapshot") for each in snapshots]
    return Index(_parsed(container, name), tuple(_parsed(each, _text(each.get("name", ""), "name")) for each in taken))


def _described(record: InstanceRecord, expanded: Expanded) -> dict[str, object]:
    config, devices = expanded
    return {
        "architecture": record.architecture,
        "config": dict(record.config),
        "devices": _plain(record.devices),
        "ephemeral": record.ephemeral,
        "profiles": list(record.profiles),
        "stateful": False,
        "expanded_config": dict(config),
        "expanded_devices": _plain(devices),
    }


def _parsed(fields: Mapping[str, object], name: str) -> Described:
    profiles = fields.get("profiles") or []
    if not isinstance(profiles, list):
        raise InvalidRequestError("Invalid index.yaml: profiles is no list")
    return Described(
        # A snapshot of LXD's may be called INSTANCE/SNAPSHOT.
        name=name.rpartition("/")[2],
        architecture=_text(fields.get("architecture", ""), "architecture"),
        description=_text(fields.get("description", ""), "description"),
        ephemeral=_text(fields.get("ephemeral", "false"), "ephemeral") == "true",
        config=_texts(fields.get("config"), "config"),
        devices={
            device: _texts(value, f"device {device!r:.100}")
            for device, value in _mapping(fields.get("devices"), "devices").items()
        },
        profiles=tuple(_text(profile, "a profile") for profile in profiles),
        created_at=_seconds(fields.get("created_at")),
        expires_at=_seconds(fields.get("expires_at")),
    )


def _plain(devices: Devices) -> dict[str, dict[str, str]]:
    return {name: dict(device) for name, device in devices.items()}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _seconds(value: object) -> float:
    """A time of Go's; 0 for none."""
    text = value if isinstance(value, str) else ""
    # Of nanoseconds the microseconds are read.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    try:
        parsed = datetime.fromisoformat(f"{whole}.{(fraction + '000000')[:6]}+00:00" if text.endswith("Z") else text)
    except ValueError:
        return 0.0
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return max(0.0, parsed.timestamp())


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidRequestError(f"Invalid index.yaml: {what} is no mapping")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"Invalid index.yaml: {what} is no text")
    return value


def _texts(value: object, what: str) -> dict[str, str]:
    return {key: _text(each, f"{what}: {key!r:.100}") for key, each in _mapping(value, what).items()}
