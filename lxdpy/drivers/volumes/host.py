"""The driver: one short-lived process per job (workers/volumes.py), which ends with the daemon."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxdpy.errors import NoSpaceError, WorkerError

_PYTHON = "/usr/bin/python3"
_WORKER = Path(__file__).resolve().parent.parent.parent / "workers/volumes.py"
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class HostVolumes:
    """Implements `drivers.base.VolumeTrees`."""

    def __init__(self, jobs: int) -> None:
        """At most `jobs` at once."""
        self._jobs = asyncio.Semaphore(jobs)

    async def copy(self, source: Path, target: Path) -> None:
        """See `VolumeTrees.copy`."""
        await self._run(f"Cannot copy {source}", "copy", str(source), str(target))

    async def usage(self, path: Path) -> int:
        """See `VolumeTrees.usage`."""
        return int((await self._run(f"Cannot measure {path}", "usage", str(path)))["used"])

    async def _run(self, attempt: str, *arguments: str) -> Mapping[str, Any]:
        async with self._jobs:
            try:
                process = await asyncio.create_subprocess_exec(
                    # What it has made by the time that the daemon dies, the next one removes.
                    *("setpriv", "--pdeathsig", "KILL", _PYTHON, "-I", "-S", str(_WORKER), *arguments),
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=PIPE,
                    env=_ENVIRONMENT,
                )
            except OSError as exc:
                raise WorkerError(f"{attempt}: cannot run {_PYTHON}: {exc.strerror}") from exc
            try:
                said, complaints = await process.communicate()
            except BaseException:
                # Nothing writes to the target any more when this returns.
                process.kill()
                await process.wait()
                raise
        try:
            answer = json.loads(said)
            error = answer.get("error")
        except (ValueError, AttributeError) as exc:
            last = complaints.decode(errors="replace").strip().rpartition("\n")[2]
            reason = last or f"it ended with {process.returncode}"
            raise WorkerError(f"{attempt}: the worker failed: {reason:.500}") from exc
        if error is not None:
            kind = NoSpaceError if error == "NoSpaceError" else WorkerError
            raise kind(f"{attempt}: {answer.get('message')}")
        return dict(answer)
