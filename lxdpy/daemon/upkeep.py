"""What the daemon does by itself, now and then: as operations, which clients see, and which end with the daemon."""

import time
from collections.abc import Mapping

from lxdpy.operations import Operations
from lxdpy.progress import Progress
from lxdpy.services.images import ImageUpkeep
from lxdpy.services.periodic import Periodic
from lxdpy.services.server_config import ServerConfig

_FIRST_S = 60.0
"""After the daemon's start, which has other work."""
_DAY_S = 86_400.0


def image_tasks(upkeep: ImageUpkeep, server_config: ServerConfig, operations: Operations) -> list[Periodic]:
    """Images are kept up to date, and expire. Both also happen when the configuration has changed, as with LXD."""

    async def update(progress: Progress) -> Mapping[str, object]:
        return {"updated": await upkeep.update_all(progress)}

    async def expire(progress: Progress) -> Mapping[str, object]:
        return {"expired": await upkeep.expire(time.time())}

    async def start_update() -> None:
        await operations.start("Updating images", update, resources={}, cancellable=True).wait()

    async def start_expire() -> None:
        await operations.start("Pruning expired images", expire, resources={}).wait()

    updates = Periodic(
        "Updating images",
        start_update,
        interval_s=lambda: server_config.auto_update_interval_s,
        first_s=_FIRST_S,
    )
    expiry = Periodic("Pruning expired images", start_expire, interval_s=lambda: _DAY_S, first_s=_FIRST_S)
    watched = [
        _Watch(server_config, "images.auto_update_interval", updates),
        _Watch(server_config, "images.remote_cache_expiry", expiry),
    ]
    for watch in watched:
        server_config.on_change(watch.changed)
    return [updates, expiry]


class _Watch:
    """Wakes a task when a key changes."""

    def __init__(self, server_config: ServerConfig, key: str, task: Periodic) -> None:
        self._server_config = server_config
        self._key = key
        self._task = task
        self._value = server_config.text(key)

    def changed(self) -> None:
        """Something was set."""
        value = self._server_config.text(self._key)
        if value != self._value:
            self._value = value
            self._task.wake()
