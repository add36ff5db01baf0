"""What a long job reports while it runs. A service takes a `Progress` and does not know who listens."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class LayerState(StrEnum):
    """Where one layer of a pull is."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    UNPACKING = "unpacking"
    DONE = "done"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """State of one layer: `done_bytes` of `size_bytes` compressed bytes are in."""

    digest: str
    size_bytes: int
    done_bytes: int
    state: LayerState


class Progress(Protocol):
    """Listener of one job."""

    def layer(self, update: LayerProgress) -> None:
        """Note the state of one layer; called often, listeners throttle."""

    def note(self, values: Mapping[str, object]) -> None:
        """Merge `values` into what the job has said of itself (JSON types)."""


class NoProgress:
    """A listener that does not care."""

    def layer(self, update: LayerProgress) -> None:
        """Ignore."""

    def note(self, values: Mapping[str, object]) -> None:
        """Ignore."""
