"""Running one command against the daemon: event loop, client, and what each failure looks like to the user."""

import asyncio
import errno
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import typer

from lxdpy.cli.output import error
from lxdpy.cli.progress import progress_view
from lxdpy.client import AsyncClient, AsyncOperation, ConnectionFailed, LXDError, OperationRecord

Action = Callable[[AsyncClient], Awaitable[int | None]]


def run(socket: str | None, action: Action) -> NoReturn:
    """Run `action` with a client and exit with the code that it returns; 1 with a message if the daemon refuses."""
    try:
        code = asyncio.run(_act(socket, action)) or 0
        sys.stdout.flush()
    except ConnectionFailed as exc:
        error(str(exc), _hint(exc))
        code = 1
    except LXDError as exc:
        error(str(exc), _notes(exc))
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read our output is gone; the interpreter must not try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as exc:
        error(f"Cannot write the output: {exc.strerror or exc}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    raise typer.Exit(code)


async def follow(operation: AsyncOperation) -> OperationRecord:
    """Wait for an operation and show its progress; Ctrl-C cancels it."""
    with progress_view() as view:
        try:
            return await operation.wait(on_progress=view.update)
        except asyncio.CancelledError:
            if operation.record.may_cancel and not operation.record.final:
                await operation.cancel()
            raise


async def each(names: Sequence[str], action: Callable[[str], Awaitable[None]]) -> int:
    """Do `action` to each name; all are tried, and 1 is returned if the daemon refused one."""
    failed = 0
    for name in names:
        try:
            await action(name)
        except ConnectionFailed:
            raise
        except LXDError as exc:
            error(str(exc) if len(names) == 1 else f"{name}: {exc}", _notes(exc))
            failed = 1
    return failed


async def _act(socket: str | None, action: Action) -> int | None:
    async with AsyncClient(socket) as client:
        return await action(client)


def _notes(exc: LXDError) -> str:
    """What the command added that may help."""
    return " ".join(getattr(exc, "__notes__", ()))


def _hint(exc: ConnectionFailed) -> str:
    cause: BaseException | None = exc
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in (errno.ENOENT, errno.ECONNREFUSED):
            return "Is the daemon running? sudo systemctl start lxdpy, or without systemd: sudo lxdpy daemon"
        if number in (errno.EACCES, errno.EPERM):
            return "You may use the socket as root or as a member of its group (usually lxdpy)."
        cause = cause.__cause__ or cause.__context__
    return ""
