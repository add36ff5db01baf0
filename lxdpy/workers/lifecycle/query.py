"""What only liblxc knows of a running container."""

from __future__ import annotations

import os
import time

import _lxc

from lxdpy.errors import BusyError
from lxdpy.linux import process
from lxdpy.workers.zygote import Channel

CONSOLE_ATTEMPTS = 20


def find(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send {"init", "monitor"} with pidfds of both when the container runs, else {"init": 0}."""
    container = _lxc.Container(str(request["name"]), str(request["lxc_path"]))
    init = container.init_pid
    monitor = process.parent(init) if init > 0 else None
    if monitor is None:
        channel.send({"init": 0})
        return
    try:
        init_fd, monitor_fd = os.pidfd_open(init), os.pidfd_open(monitor)
    except ProcessLookupError:
        channel.send({"init": 0})
        return
    if container.init_pid != init or process.parent(init) != monitor:
        channel.send({"init": 0})
        return
    channel.send({"init": init, "monitor": monitor}, (init_fd, monitor_fd))


def console(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send a descriptor of the console's pty master. Raises BusyError when somebody holds it."""
    container = _lxc.Container(str(request["name"]), str(request["lxc_path"]))
    channel.send({}, (_console(container, str(request["name"])),))
    # The monitor counts the console as taken while this process lives, which holds the connection that asked for it.
    channel.receive()


def _console(container: _lxc.Container, name: str) -> int:
    for attempt in range(CONSOLE_ATTEMPTS):
        try:
            fd: int = container.console_getfd(0)
        except ValueError as exc:
            if attempt == CONSOLE_ATTEMPTS - 1:
                raise BusyError(f'Cannot open the console of instance "{name}": it is in use') from exc
            # The monitor may not have noticed yet that the one before us is gone.
            time.sleep(0.005)
        else:
            return fd
    raise AssertionError


def version(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Send {"version"} of liblxc."""
    channel.send({"version": _lxc.get_version()})
