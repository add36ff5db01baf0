"""`lxdpy exec`: join this process's streams, terminal and signals with a command in an instance."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lxdpy.client import AsyncClient, AsyncProcess

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


async def execute(
    client: AsyncClient,
    name: str,
    argv: Sequence[str],
    *,
    tty: bool | None,
    environment: Mapping[str, str],
    cwd: str | None,
    user: int | None,
    group: int | None,
) -> int:
    """Run a command and return its exit code; `tty` None: on a terminal if both our ends are one."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty() if tty is None else tty
    width, height = _window() if interactive else (0, 0)
    if interactive and "TERM" in os.environ:
        environment = {"TERM": os.environ["TERM"], **environment}
    instance = await client.instances.get(name)
    async with await instance.exec(
        argv,
        interactive=interactive,
        width=width,
        height=height,
        environment=environment,
        cwd=cwd,
        user=user,
        group=group,
    ) as process:
        with _raw_terminal(interactive), _signals(process, interactive):
            feeder = asyncio.create_task(process.feed(sys.stdin.buffer if sys.stdin else None))
            try:
                async for stream, chunk in process.output():
                    file = sys.stderr if stream == "stderr" else sys.stdout
                    file.buffer.write(chunk)
                    file.buffer.flush()
                return await process.wait()
            finally:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)


def _window() -> tuple[int, int]:
    """Columns and rows of our terminal; 80x24 without one."""
    for fd in (1, 0, 2):
        try:
            size = os.get_terminal_size(fd)
        except OSError:
            continue
        if size.columns and size.lines:
            return size.columns, size.lines
    return 80, 24


@contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """Our terminal passes every key on, Ctrl-C too, while the command runs."""
    if not (wanted and sys.stdin and sys.stdin.isatty()):
        yield
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd)
    # Not TCSAFLUSH, the default: what was typed ahead is for the command.
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)


@contextmanager
def _signals(process: AsyncProcess, interactive: bool) -> Iterator[None]:
    """Signals that we get reach the command, and the window's size its terminal."""
    loop = asyncio.get_running_loop()
    sent: set[asyncio.Task[None]] = set()

    def send(number: int) -> None:
        task = loop.create_task(
            process.resize(*_window()) if number == signal.SIGWINCH else process.signal(int(number))
        )
        sent.add(task)
        task.add_done_callback(sent.discard)

    numbers = (*FORWARDED, signal.SIGWINCH) if interactive else FORWARDED
    for number in numbers:
        loop.add_signal_handler(number, send, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
