"""What a backup of a volume says of it: index.yaml, as LXD writes and reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdpy.db.storage import VolumeRecord, VolumeSnapshotRecord
from lxdpy.drivers.base import UnpackedBackup
from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.image_metadata import load_document
from lxdpy.services.storage.model import Settings

_MAX_BYTES = 4 << 20
_ZERO = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class DescribedSnapshot:
    """A snapshot as an index describes it."""

    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Index:
    """What is to be made again."""

    name: str
    settings: Settings
    snapshots: tuple[DescribedSnapshot, ...]


def dump(record: VolumeRecord, snapshots: list[VolumeSnapshotRecord]) -> str:
    """index.yaml."""
    import yaml  # as in image_metadata

    document = {
        "name": record.name,
        "backend": "dir",
        "pool": record.pool,
        "snapshots": [snapshot.name for snapshot in snapshots],
        "optimized": False,
        "optimized_header": False,
        "type": "custom",
        "config": {
            "volume": {
                "config": dict(record.config),
                "description": record.description,
                "name": record.name,
                "type": "custom",
                "used_by": [],
                "location": "none",
                "content_type": "filesystem",
                "project": record.project,
                "created_at": _time(record.created_at),
            },
            "volume_snapshots": [
                {
                    "config": dict(snapshot.config),
                    "description": snapshot.description,
                    "name": snapshot.name,
                    "content_type": "filesystem",
                    "created_at": _time(snapshot.created_at),
                    "expires_at": _time(snapshot.expires_at) if snapshot.expires_at else _ZERO,
                }
                for snapshot in snapshots
            ],
        },
    }
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def read(unpacked: UnpackedBackup) -> Index:
    """Read the index of a backup that is unpacked. Raises InvalidRequestError, WorkerError."""
    try:
        data = (unpacked.directory / "index.yaml").read_bytes()
    except OSError as exc:
        raise WorkerError(f"Cannot read the index of a backup: {exc}") from exc
    document = _mapping(load_document(data, "index.yaml", _MAX_BYTES))
    config = _mapping(document.get("config"))
    volume = _mapping(config.get("volume"))
    snapshots = config.get("volume_snapshots") or []
    if not isinstance(snapshots, list):
        raise InvalidRequestError("Invalid index.yaml: volume_snapshots is no list")
    return Index(
        _text(volume.get("name") or document.get("name", "")),
        _settings(volume),
        tuple(
            DescribedSnapshot(_text(_mapping(each).get("name", "")).rpartition("/")[2], _settings(_mapping(each)))
            for each in snapshots
        ),
    )


def _settings(fields: Mapping[str, object]) -> Settings:
    config = {key: _text(value) for key, value in _mapping(fields.get("config")).items()}
    # LXD notes there whose ids are on its disk.
    config = {key: value for key, value in config.items() if not key.startswith("volatile.")}
    return Settings(_text(fields.get("description", "")), config)


def _mapping(value: object) -> Mapping[str, object]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidRequestError("Invalid index.yaml: expected a mapping")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError("Invalid index.yaml: expected a text")
    return value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
