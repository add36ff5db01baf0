"""Log files of instances: what init printed, liblxc's, recorded output of commands."""

import asyncio
from collections.abc import AsyncIterator

from lxdpy.project import instance_url
from lxdpy.services.events import Announce
from lxdpy.services.instances.console import ConsoleLog
from lxdpy.services.instances.directory import InstanceDirectories, parts
from lxdpy.services.instances.roster import Roster


class InstanceLogs:
    """Reads and deletes them."""

    def __init__(self, roster: Roster, directories: InstanceDirectories, announce: Announce) -> None:
        self._roster = roster
        self._directories = directories
        self._announce = announce

    def console(self, name: str) -> ConsoleLog:
        """What its init has printed. Raises NotFoundError."""
        runtime = self._roster.get(name)
        container = runtime.container
        self._announce("instance-console-retrieved", instance_url(name))
        # That of a later start is another log.
        return ConsoleLog(
            self._directories.path(name) / "console.log",
            lambda: container is None or runtime.container is not container,
        )

    async def clear_console(self, name: str) -> None:
        """Empty the console log. Raises NotFoundError."""
        self._roster.get(name)
        await asyncio.to_thread(self._directories.clear_console, name)
        self._announce("instance-console-reset", instance_url(name))

    async def names(self, name: str) -> list[str]:
        """Names of its log files. Raises NotFoundError."""
        self._roster.get(name)
        return await asyncio.to_thread(self._directories.log_files, name)

    async def read(self, name: str, file: str) -> AsyncIterator[bytes]:
        """One of its log files, in parts. Raises NotFoundError."""
        self._roster.get(name)
        data = self._directories.open_log(name, file)
        self._announce("instance-log-retrieved", instance_url(name), {"file": file})
        return parts(data)

    async def delete(self, name: str, file: str) -> None:
        """Delete recorded output of a command. Raises NotFoundError, InvalidRequestError for the daemon's own logs."""
        self._roster.get(name)
        await asyncio.to_thread(self._directories.delete_log, name, file)
        self._announce("instance-log-deleted", instance_url(name), {"file": file})
