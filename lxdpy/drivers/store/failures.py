"""OSErrors of the store's directories, as ours."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from lxdpy.errors import NoSpaceError, WorkerError


@contextmanager
def attempting(attempt: str) -> Iterator[None]:
    """Raise NoSpaceError or WorkerError, which say what was attempted, instead of OSError."""
    try:
        yield
    except OSError as exc:
        kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
        raise kind(f"{attempt}: {exc}") from exc
