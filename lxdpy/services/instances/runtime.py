"""The part of an instance that changes while it lives: its container, and who may touch it.

    Stopped -> Starting -> Running <-> Frozen
       ^                      |
       +------ Stopping <-----+

An instance counts as stopped as soon as its init has ended; the monitor still clears the network and the cgroups then,
and whoever wants to start or delete the instance waits for that.
"""

import asyncio
from collections.abc import Mapping

from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.drivers.base import ExitStatus, RunningContainer
from lxdpy.services.instances.access import FileAccess
from lxdpy.services.instances.attach import ConsoleSession
from lxdpy.services.instances.model import InstanceStatus


class Runtime:
    """One instance, in memory."""

    __slots__ = (
        "cards",
        "changing",
        "console",
        "container",
        "disks",
        "exit",
        "expanded",
        "files",
        "frozen",
        "killed",
        "lock",
        "rebooting",
        "record",
        "restarts",
        "snapshots",
        "starting",
        "stops",
        "told",
        "watcher",
    )

    def __init__(self, record: InstanceRecord, snapshots: tuple[SnapshotRecord, ...] = ()) -> None:
        self.record = record
        self.snapshots = snapshots
        """Oldest first."""
        self.lock = asyncio.Lock()
        """Held by whoever starts, changes or deletes the instance."""
        self.changing = asyncio.Lock()
        """Held while the record or the snapshots are replaced."""
        self.disks: Devices = {}
        """The disk devices that the container shows, while there is one."""
        self.container: RunningContainer | None = None
        """Set from the start until init has ended."""
        self.watcher: asyncio.Task[None] | None = None
        """Runs from the start until everything of the container is cleared."""
        self.cards: dict[str, Mapping[str, str]] = {}
        """The NIC devices that its container has, while it runs."""
        self.exit: ExitStatus | None = None
        """How it ended last."""
        self.frozen = False
        self.killed = False
        """Whether this container was ended by force."""
        self.told = False
        """Whether this container's end was announced."""
        self.starting = False
        self.stops = 0
        """How many stops are under way."""
        self.restarts = 0
        """How many restarts are under way: an end is not the end of the instance then."""
        self.files = FileAccess()
        """Who looks at its files."""
        self.console: ConsoleSession | None = None
        """Who is attached to its console."""
        self.rebooting = False
        """Its init has asked to be started again, and is not yet."""
        self.expanded: tuple[dict[str, str], dict[str, Mapping[str, str]]] | None = None

    @property
    def is_system(self) -> bool:
        """Whether it runs the init of a distribution, and not what an OCI image says."""
        return self.record.config_digest is None

    @property
    def stopping(self) -> bool:
        """Whether somebody is stopping it."""
        return self.stops > 0

    @property
    def status(self) -> InstanceStatus:
        """What the instance does now."""
        if self.container is None:
            return InstanceStatus.STARTING if self.starting or self.rebooting else InstanceStatus.STOPPED
        if self.frozen:
            return InstanceStatus.FROZEN
        return InstanceStatus.STOPPING if self.stopping else InstanceStatus.RUNNING

    async def cleared(self) -> None:
        """Wait until nothing of a container that ended is left, and nobody else holds the root file system.

        With the lock held it stays so. Raises BusyError.
        """
        if self.container is None:
            if self.watcher is not None:
                await asyncio.wait([self.watcher])
            await self.files.end()
