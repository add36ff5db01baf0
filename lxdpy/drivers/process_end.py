"""A process that is not our child, held by a pidfd: signal it, and know when it has ended."""

import asyncio
import os
import signal

from lxdpy.linux import process


class ProcessEnd:
    """Watches `pidfd`, which it owns, from the running event loop; closes it at the process's end."""

    def __init__(self, pidfd: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pidfd = pidfd
        self._event = asyncio.Event()
        self._loop.add_reader(pidfd, self._end)

    @classmethod
    def of(cls, pid: int, start_time: int) -> "ProcessEnd | None":
        """The process of this pid that started then; None when it has ended, whoever has the pid now."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        # Read after the pidfd was opened: it is of the process that the pidfd holds.
        if process.start_time(pid) != start_time:
            os.close(pidfd)
            return None
        return cls(pidfd)

    @property
    def ended(self) -> bool:
        """Whether it has ended, as far as the event loop has noticed."""
        return self._event.is_set()

    def fileno(self) -> int:
        """The pidfd; -1 once it has ended or is watched no longer."""
        return self._pidfd

    async def wait(self) -> None:
        """Wait for its end; returns at once ever after."""
        await self._event.wait()

    def signal(self, signo: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signo)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """Watch no longer. Whoever waits goes on waiting."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _end(self) -> None:
        self.close()
        self._event.set()
