"""What the store and its layer workers say to each other (zygote.py carries it as JSON).

store                                   worker (workers/layers)
UnpackRequest, FitRequest    ──────>    or FetchRequest, ImageRequest
{"unpack": true}             ──────>    a slot is free: begin to unpack (fetching began at once)
                             <──────    {"progress": BYTES}  compressed bytes that are in
                             <──────    {"fetched": true}    the blob is whole and verified
                             <──────    {"renew": ENDPOINT, "challenges": [...]}
{"endpoint": ENDPOINT}       ──────>
{"error": KIND, "message": TEXT} ──>
                             <──────    {"done": Done}, or an error
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from lxdpy.drivers.base import BlobEndpoint


@dataclass(frozen=True, slots=True)
class UnpackRequest:
    """Unpack one blob into DIRECTORY/fs; fetch it first, unless it is here."""

    digest: str
    size: int
    diff_id: str
    blob: str
    """The blob's file: appended to until it is whole, when there are endpoints."""
    endpoints: tuple[BlobEndpoint, ...]
    directory: str
    max_bytes: int
    max_entries: int
    idle_timeout_s: float

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "unpack", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        values = {key: value for key, value in message.items() if key != "job"}
        values["endpoints"] = tuple(BlobEndpoint(**endpoint) for endpoint in values["endpoints"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """Fetch one blob."""

    digest: str
    size: int
    blob: str
    """The blob's file: appended to until it is whole."""
    endpoints: tuple[BlobEndpoint, ...]
    idle_timeout_s: float

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "fetch", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        values = {key: value for key, value in message.items() if key != "job"}
        values["endpoints"] = tuple(BlobEndpoint(**endpoint) for endpoint in values["endpoints"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class FitRequest:
    """Fit the layer in DIRECTORY onto the layers below; lowers are their directories, topmost first."""

    directory: str
    lowers: tuple[str, ...]
    max_bytes: int

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "fit", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        return cls(message["directory"], tuple(message["lowers"]), message["max_bytes"])


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Unpack an LXD image into DIRECTORY: see workers/layers/image.py."""

    fingerprint: str
    metadata: str
    """The file that holds everything, or everything but the root file system."""
    rootfs: str | None
    directory: str
    max_bytes: int
    max_entries: int

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "image", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        return cls(**{key: value for key, value in message.items() if key != "job"})


@dataclass(frozen=True, slots=True)
class PackRequest:
    """Pack an image into DIRECTORY/image: see workers/layers/pack.py."""

    lowers: tuple[tuple[str, str], ...]
    """(kind, path) of layers, topmost first."""
    directory: str
    metadata: str
    config: str | None
    templates: str | None
    """A directory."""
    time: int
    """When the metadata was made."""
    compression: str
    level: int | None

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "pack", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        values = {key: value for key, value in message.items() if key != "job"}
        values["lowers"] = tuple((kind, path) for kind, path in values["lowers"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class BackupPart:
    """An instance, or a snapshot of it, in a backup."""

    name: str
    """`container`, or `snapshots/NAME`; `volume`, or `volume-snapshots/NAME`."""
    lowers: tuple[tuple[str, str], ...]
    """(kind, path) of layers, topmost first."""
    texts: tuple[tuple[str, str], ...]
    """Files beside the root file system: name and content."""
    templates: str | None
    """A directory."""
    bare: bool
    """A volume: files, and nothing beside them."""


@dataclass(frozen=True, slots=True)
class BackupPackRequest:
    """Pack a backup into DIRECTORY/image: see workers/layers/backup.py."""

    directory: str
    index: str
    parts: tuple[BackupPart, ...]
    time: int
    compression: str
    level: int | None

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "backup", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        values = {key: value for key, value in message.items() if key != "job"}
        values["parts"] = tuple(
            BackupPart(
                part["name"],
                tuple((kind, path) for kind, path in part["lowers"]),
                tuple((name, text) for name, text in part["texts"]),
                part["templates"],
                part["bare"],
            )
            for part in values["parts"]
        )
        return cls(**values)


@dataclass(frozen=True, slots=True)
class BackupUnpackRequest:
    """Unpack a backup into DIRECTORY: see workers/layers/backup.py."""

    path: str
    kind: str
    """`container` or `volume`."""
    directory: str
    max_bytes: int
    max_entries: int

    def encode(self) -> dict[str, object]:
        """As a message."""
        return {"job": "import", **asdict(self)}

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        return cls(**{key: value for key, value in message.items() if key != "job"})


@dataclass(frozen=True, slots=True)
class BackupContents:
    """What was in a backup: its parts, in the order of their directories, with their entries and bytes."""

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """The file that was made."""

    fingerprint: str
    size: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a layer holds now."""

    entries: int
    size_bytes: int
    deferred: bool
    """It has to be fitted onto the layers below."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Self:
        """From a message."""
        return cls(message["entries"], message["size_bytes"], message["deferred"], tuple(message["warnings"]))
