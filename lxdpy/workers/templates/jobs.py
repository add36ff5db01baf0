"""One render job, in a child that has given up whatever it could do harm with before it reads the first template."""

from __future__ import annotations

import os
import resource
from typing import Any

from lxdpy.errors import InvalidRequestError
from lxdpy.linux import capabilities, landlock
from lxdpy.workers.templates.render import MAX_BYTES, render
from lxdpy.workers.zygote import Channel

_NOBODY = 65534
_CPU_S = 5
_MEMORY_BYTES = 256 << 20
_OPEN_FILES = 32


def run(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Render every template of `request`, in order: {"files": [{"path", "name", "text", "properties"}], "context"}.

    Sends {"texts"}. Raises InvalidRequestError, which names the template.
    """
    _confine()
    files: Any = request["files"]
    context: Any = request["context"]
    texts: list[str] = []
    left = MAX_BYTES
    for file in files:
        attempt = f'Cannot render template "{file["name"]}" for {file["path"]}'
        try:
            text = render(file["text"], {**context, "path": file["path"], "properties": file["properties"]}, left)
        except MemoryError:
            raise InvalidRequestError(f"{attempt}: it needs more than {_MEMORY_BYTES >> 20} MB of memory") from None
        except RecursionError:
            raise InvalidRequestError(f"{attempt}: it is nested too deep") from None
        except InvalidRequestError as exc:
            raise InvalidRequestError(f"{attempt}: {exc}") from exc
        left -= len(text)
        texts.append(text)
    channel.send({"texts": texts})


def _confine() -> None:
    """Be nobody, and open nothing. Raises OSError."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (value, value))
    capabilities.set_no_new_privs()
    if landlock.abi_version():
        rules = landlock.create_ruleset(
            landlock.ACCESS_FS_EXECUTE
            | landlock.ACCESS_FS_READ_FILE
            | landlock.ACCESS_FS_READ_DIR
            | landlock.ACCESS_FS_WRITE_FILE
            | landlock.ACCESS_FS_MAKE_REG
            | landlock.ACCESS_FS_REMOVE_FILE
        )
        landlock.restrict_self(rules)
        os.close(rules)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
