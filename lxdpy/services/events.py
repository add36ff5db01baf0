"""How services tell what happened, without knowing who listens."""

from collections.abc import Mapping
from typing import Protocol


class Announce(Protocol):
    """Publishes a lifecycle event."""

    def __call__(self, action: str, source: str, context: Mapping[str, object] | None = None) -> None:
        """`action` is LXD's word (`instance-started`), `source` the API path of what it happened to.

        The path tells the project: `lxdpy.project.instance_url` and `in_project` write such paths.
        """
