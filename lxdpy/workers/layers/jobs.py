"""The jobs of a layer worker: unpack a blob (fetching it meanwhile), fit a layer onto those below; fetch; LXD images.

    DIRECTORY/fs             the layer
              deferred.json  what the first job left to the second

Three threads: one fetches and hashes the blob, one unpacks it as it comes, one listens to the daemon. The last one ends
the process when the daemon is gone.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lxdpy import errors
from lxdpy.drivers.base import BlobEndpoint
from lxdpy.drivers.store.messages import (
    BackupPackRequest,
    BackupUnpackRequest,
    Done,
    FetchRequest,
    FitRequest,
    ImageRequest,
    PackRequest,
    UnpackRequest,
)
from lxdpy.errors import DigestMismatchError, LayerError, LxdpyError, NoSpaceError, WorkerError
from lxdpy.workers.layers.confine import confine
from lxdpy.workers.layers.feed import Feed
from lxdpy.workers.layers.fetch import Fetch
from lxdpy.workers.layers.fit import Fit, open_layers
from lxdpy.workers.layers.inflate import inflate
from lxdpy.workers.layers.lowers import Lowers
from lxdpy.workers.layers.tar import TarReader
from lxdpy.workers.layers.tree import Deferred, Tree
from lxdpy.workers.zygote import Channel

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PROGRESS_S = 0.1
_DEFERRED = "deferred.json"
# A bomb is a bomb when it is large, too: text of one letter compresses by 1000.
_MAX_RATIO = 1000
_RATIO_MATTERS_BYTES = 1 << 30
_ATTEMPTS = {
    "image": "Cannot unpack the image",
    "pack": "Cannot pack the image",
    "backup": "Cannot back the instance up",
    "import": "Cannot unpack the backup",
}


def run(message: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Do the job that `message` asks for. Raises LxdpyError."""
    # Short-lived, and without cycles that would be worth a look.
    gc.disable()
    os.umask(0)
    attempt = _ATTEMPTS.get(str(message["job"]), "Cannot unpack a layer")
    try:
        if message["job"] == "unpack":
            unpack(UnpackRequest.decode(message), channel)
        elif message["job"] == "fetch":
            fetch_blob(FetchRequest.decode(message), channel)
        elif message["job"] == "image":
            image(ImageRequest.decode(message), channel)
        elif message["job"] == "backup":
            backup(BackupPackRequest.decode(message), channel)
        elif message["job"] == "import":
            unpack_backup(BackupUnpackRequest.decode(message), channel)
        elif message["job"] == "pack":
            pack(PackRequest.decode(message), channel)
        else:
            fit(FitRequest.decode(message), channel)
    except OSError as exc:
        where = f" ({exc.filename!r})" if exc.filename else ""
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"{attempt}: {exc.strerror}") from exc
        raise WorkerError(f"{attempt}: {exc.strerror or exc}{where}") from exc
    except MemoryError as exc:
        raise LayerError(f"{attempt}: it takes too much memory") from exc


# ---------------------------------------------------------------- unpack


def unpack(request: UnpackRequest, channel: Channel) -> None:
    """Fetch what is missing of the blob, verify it, unpack it and verify what it unpacks to."""
    directory_fd = os.open(request.directory, _DIRECTORY)
    root_fd = os.open("fs", _DIRECTORY, dir_fd=directory_fd)
    if request.endpoints:
        blob_fd, available = _open_partial(request.blob, request.size)
    else:
        blob_fd = os.open(request.blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        available = os.fstat(blob_fd).st_size
    confine(directory_fd, max(request.max_bytes, request.size))

    daemon = _Daemon(channel)
    feed = Feed(blob_fd, available)
    fetch = Fetch(
        feed,
        request.digest,
        request.size,
        renew=daemon.renew,
        progress=daemon.progress,
        idle_timeout_s=request.idle_timeout_s,
    )
    threading.Thread(target=_fetch, args=(fetch, feed, request.endpoints, daemon), daemon=True).start()
    threading.Thread(target=daemon.listen, daemon=True).start()

    daemon.may_unpack.wait()
    diff = _Diff(feed, request)
    reader = TarReader(diff.chunks())
    try:
        unpacked = Tree(root_fd, request.max_entries).unpack(reader)
        reader.drain()
        diff.verify()
    except (LayerError, DigestMismatchError):
        # It may be just not the blob that was meant.
        feed.wait()
        raise
    feed.wait()
    if unpacked.deferred:
        _write_deferred(directory_fd, unpacked.deferred)
    daemon.done(
        Done(unpacked.entries, unpacked.size_bytes, bool(unpacked.deferred), tuple(unpacked.warnings)),
    )


def _open_partial(path: str, size: int) -> tuple[int, int]:
    """A blob's file, to go on with, and how many bytes are there."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    available = os.fstat(fd).st_size
    if available > size:
        os.ftruncate(fd, 0)
        available = 0
    return fd, available


def _fetch(fetch: Fetch, feed: Feed, endpoints: Sequence[BlobEndpoint], daemon: _Daemon) -> None:
    """The fetching thread: whatever ends it is for the other one to raise."""
    try:
        fetch.run(endpoints)
        daemon.fetched()
    except BaseException as exc:  # noqa: BLE001 - raised again by Feed.wait and Feed.chunks
        feed.end(exc)
        daemon.may_unpack.set()
    else:
        feed.end()


class _Diff:
    """The layer's uncompressed stream: hashed, and limited."""

    def __init__(self, feed: Feed, request: UnpackRequest) -> None:
        self._feed = feed
        self._request = request
        self._hash = hashlib.new(request.diff_id.partition(":")[0])

    def chunks(self) -> Iterator[bytes]:
        """The stream. Raises LayerError when there is too much of it."""
        request, update = self._request, self._hash.update
        most = min(request.max_bytes, max(_RATIO_MATTERS_BYTES, request.size * _MAX_RATIO))
        count = 0
        for piece in inflate(self._feed.chunks()):
            count += len(piece)
            if count > most:
                raise LayerError(f"Layer {request.digest} unpacks to more than {most} bytes, the limit")
            update(piece)
            yield piece

    def verify(self) -> None:
        """Raises DigestMismatchError, once all was read."""
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if found != self._request.diff_id:
            raise DigestMismatchError(
                f"Layer {self._request.digest} unpacks to {found}, and not to its diff_id {self._request.diff_id}"
            )


class _Daemon:
    """What the daemon is told and asked. `listen` runs in a thread of its own."""

    def __init__(self, channel: Channel) -> None:
        self.may_unpack = threading.Event()
        self._channel = channel
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._told_at = 0.0

    def listen(self) -> None:
        """Hear the daemon; the process ends with it."""
        while True:
            try:
                received = self._channel.receive()
            except OSError:
                received = None
            if received is None:
                os._exit(1)
            message = received[0]
            if message.get("unpack"):
                self.may_unpack.set()
            else:
                self._answers.put(message)

    def progress(self, count: int) -> None:
        """So many bytes of the blob are in."""
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_S:
            self._told_at = now
            self._channel.send({"progress": count})

    def fetched(self) -> None:
        """The blob is whole."""
        self._channel.send({"fetched": True})

    def done(self, result: Done) -> None:
        """The job is done."""
        self._channel.send({"done": asdict(result)})

    def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        """The endpoint with credentials that are good now. Raises what the daemon says."""
        self._channel.send({"renew": asdict(endpoint), "challenges": list(challenges)})
        answer = self._answers.get()
        if "endpoint" in answer:
            return BlobEndpoint(**answer["endpoint"])
        kind = getattr(errors, str(answer.get("error")), None)
        if not isinstance(kind, type) or not issubclass(kind, LxdpyError):
            kind = WorkerError
        raise kind(str(answer.get("message")))


# ----------------------------------------------------------------- fetch


def fetch_blob(request: FetchRequest, channel: Channel) -> None:
    """Fetch what is missing of the blob, and verify it."""
    fd, available = _open_partial(request.blob, request.size)
    confine(None, request.size)
    daemon = _Daemon(channel)
    threading.Thread(target=daemon.listen, daemon=True).start()
    Fetch(
        Feed(fd, available),
        request.digest,
        request.size,
        renew=daemon.renew,
        progress=daemon.progress,
        idle_timeout_s=request.idle_timeout_s,
    ).run(request.endpoints)
    # Its name says what it holds, and a power cut would make that a lie that nobody looks through for long.
    os.fsync(fd)
    daemon.done(Done(0, request.size, deferred=False))


# ------------------------------------------------------------------- fit


def fit(request: FitRequest, channel: Channel) -> None:
    """Do what `unpack` deferred."""
    directory_fd = os.open(request.directory, _DIRECTORY)
    root_fd = os.open("fs", _DIRECTORY, dir_fd=directory_fd)
    deferred = _read_deferred(directory_fd)
    confine(directory_fd, request.max_bytes)
    work = Fit(root_fd, directory_fd, Lowers(open_layers(request.lowers)), request.max_bytes)
    work.run(deferred)
    os.unlink(_DEFERRED, dir_fd=directory_fd)
    _Daemon(channel).done(Done(work.copied_entries, work.copied_bytes, deferred=False))


# ----------------------------------------------------------------- image


def image(request: ImageRequest, channel: Channel) -> None:
    """Unpack an LXD image."""
    # Of no use to OCI layers, which most workers unpack.
    from lxdpy.workers.layers.image import unpack_image

    daemon = _Daemon(channel)
    daemon.done(unpack_image(request, lambda: threading.Thread(target=daemon.listen, daemon=True).start()))


def pack(request: PackRequest, channel: Channel) -> None:
    """Pack an image."""
    from lxdpy.workers.layers import pack as packing

    daemon = _Daemon(channel)
    packed = packing.pack(request, lambda: threading.Thread(target=daemon.listen, daemon=True).start(), daemon.progress)
    channel.send({"done": asdict(packed)})


def backup(request: BackupPackRequest, channel: Channel) -> None:
    """Pack an instance."""
    from lxdpy.workers.layers.backup import pack_backup

    daemon = _Daemon(channel)
    confined = threading.Thread(target=daemon.listen, daemon=True).start
    channel.send({"done": asdict(pack_backup(request, confined, daemon.progress))})


def unpack_backup(request: BackupUnpackRequest, channel: Channel) -> None:
    """Unpack an instance."""
    from lxdpy.workers.layers import backup as backups

    daemon = _Daemon(channel)
    confined = threading.Thread(target=daemon.listen, daemon=True).start
    channel.send({"done": asdict(backups.unpack_backup(request, confined))})


def _write_deferred(directory_fd: int, deferred: Deferred) -> None:
    fd = os.open(_DEFERRED, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    with open(fd, "w", encoding="ascii") as file:
        json.dump(
            {
                "directories": [os.fsdecode(path) for path in deferred.directories],
                "hardlinks": [[os.fsdecode(name), os.fsdecode(target)] for name, target in deferred.hardlinks],
                "opaque_root": deferred.opaque_root,
            },
            file,
        )


def _read_deferred(directory_fd: int) -> Deferred:
    fd = os.open(_DEFERRED, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    with open(fd, encoding="ascii") as file:
        document = json.load(file)
    return Deferred(
        directories=[os.fsencode(path) for path in document["directories"]],
        hardlinks=[(os.fsencode(name), os.fsencode(target)) for name, target in document["hardlinks"]],
        opaque_root=document["opaque_root"],
    )
