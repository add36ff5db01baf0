"""Image configurations (OCI image-spec, config.md)."""

from collections.abc import Mapping
from dataclasses import dataclass

from lxdpy.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of the image's making; an `empty_layer` step has no layer."""

    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself: how it runs by default, and its layers' diff_ids, base first."""

    os: str
    architecture: str
    variant: str
    created: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    user: str
    working_dir: str
    stop_signal: str
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    diff_ids: tuple[Digest, ...]
    history: tuple[HistoryEntry, ...]
