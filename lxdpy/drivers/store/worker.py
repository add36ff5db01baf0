"""Conversations with the layer workers: one job, its questions, its progress."""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from lxdpy.drivers.base import BlobEndpoint, BlobSource
from lxdpy.drivers.store.messages import (
    BackupContents,
    BackupPackRequest,
    BackupUnpackRequest,
    Done,
    FetchRequest,
    FitRequest,
    ImageRequest,
    Packed,
    PackRequest,
    UnpackRequest,
)
from lxdpy.drivers.zygote import Job, Message, Zygote
from lxdpy.errors import LxdpyError, WorkerError

_ARGV = (sys.executable, "-I", "-m", "lxdpy.workers.layers")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""Variables of the daemon that say how to reach the network, and whom to trust there."""
_END_TIMEOUT_S = 10.0

Answer = Callable[[Job, Mapping[str, Any]], Awaitable[None]]


class LayerWorkers:
    """The fork server of layer workers; it starts with the first job and ends when there was none for a while."""

    def __init__(self) -> None:
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._zygote = Zygote("layer", _ARGV, {"PATH": _PATH, "LANG": "C.UTF-8", **passed})

    @property
    def pid(self) -> int | None:
        """The fork server's pid, when it runs."""
        return self._zygote.pid

    async def start(self) -> None:
        """Start the fork server ahead of its first job."""
        await self._zygote.start()

    async def unpack(
        self,
        request: UnpackRequest,
        source: BlobSource | None,
        *,
        started: Callable[[Job], Awaitable[None]],
        progress: Callable[[int], None],
        fetched: Callable[[], None],
    ) -> Done:
        """Have a layer unpacked. It waits for `started` to send {"unpack": true}. Raises what the worker raises."""

        async def answer(job: Job, message: Mapping[str, Any]) -> None:
            if "progress" in message:
                progress(message["progress"])
            elif "fetched" in message:
                fetched()
            elif "renew" in message and source is not None:
                await job.send(await _renew(source, message))
            else:
                raise WorkerError(f"The layer worker said {message!r:.200}")

        return await self._run(request.encode(), answer, started)

    async def fetch(self, request: FetchRequest, source: BlobSource, *, progress: Callable[[int], None]) -> None:
        """Have a blob fetched. Raises what the worker raises."""

        async def answer(job: Job, message: Mapping[str, Any]) -> None:
            if "progress" in message:
                progress(message["progress"])
            elif "renew" in message:
                await job.send(await _renew(source, message))
            else:
                await _unasked(job, message)

        await self._run(request.encode(), answer, _nothing_to_say)

    async def fit(self, request: FitRequest) -> Done:
        """Have a layer fitted onto those below. Raises what the worker raises."""
        return await self._run(request.encode(), _unasked, _nothing_to_say)

    async def unpack_image(self, request: ImageRequest) -> Done:
        """Have an LXD image unpacked. Raises what the worker raises."""
        return await self._run(request.encode(), _unasked, _nothing_to_say)

    async def pack(self, request: PackRequest, progress: Callable[[int], None]) -> Packed:
        """Have an image packed. Raises what the worker raises."""

        async def answer(job: Job, message: Mapping[str, Any]) -> None:
            if "progress" not in message:
                await _unasked(job, message)
            progress(message["progress"])

        return Packed(**await self._ask(request.encode(), answer, _nothing_to_say))

    async def pack_backup(self, request: BackupPackRequest, progress: Callable[[int], None]) -> Packed:
        """Have an instance packed. Raises what the worker raises."""

        async def answer(job: Job, message: Mapping[str, Any]) -> None:
            if "progress" not in message:
                await _unasked(job, message)
            progress(message["progress"])

        return Packed(**await self._ask(request.encode(), answer, _nothing_to_say))

    async def unpack_backup(self, request: BackupUnpackRequest) -> BackupContents:
        """Have a backup unpacked. Raises what the worker raises."""
        done = await self._ask(request.encode(), _unasked, _nothing_to_say)
        return BackupContents(tuple(done["names"]), tuple((entries, size) for entries, size in done["sizes"]))

    async def close(self) -> None:
        """End the fork server."""
        await self._zygote.close()

    async def _run(self, request: Message, answer: Answer, started: Callable[[Job], Awaitable[None]]) -> Done:
        return Done.decode(await self._ask(request, answer, started))

    async def _ask(
        self, request: Message, answer: Answer, started: Callable[[Job], Awaitable[None]]
    ) -> Mapping[str, Any]:
        with await self._zygote.job(request) as job:
            try:
                await started(job)
                while True:
                    message, _ = await job.receive()
                    if "done" in message:
                        return _mapping(message["done"])
                    await answer(job, message)
            except BaseException:
                # What it wrote to can be removed only when it writes no more.
                job.kill()
                await _ended(job)
                raise


async def _unasked(_: Job, message: Mapping[str, Any]) -> None:
    raise WorkerError(f"The layer worker said {message!r:.200}")


async def _nothing_to_say(_: Job) -> None:
    pass


async def _ended(job: Job) -> None:
    """Wait until a child that was killed, or failed, is gone."""
    while True:
        try:
            await job.receive(_END_TIMEOUT_S)
        except WorkerError:
            return
        except LxdpyError:
            continue


async def _renew(source: BlobSource, message: Mapping[str, Any]) -> Message:
    try:
        endpoint = await source.renew(BlobEndpoint(**message["renew"]), message["challenges"])
    except LxdpyError as exc:
        return {"error": type(exc).__name__, "message": str(exc)}
    return {"endpoint": asdict(endpoint)}


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WorkerError(f"The layer worker said {value!r:.200}")
    return value
