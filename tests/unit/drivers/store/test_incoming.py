"""A file that comes in, and is given up half-way."""

import asyncio
import os
import threading
from pathlib import Path
from typing import cast

import pytest

from lxdpy.drivers.store.disk import Disk
from lxdpy.drivers.store.incoming import IncomingFiles


class _Place:
    def __init__(self, path: Path) -> None:
        self._path = path

    def incoming(self) -> Path:
        return self._path / "file"


def test_giving_up_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done in the event loop, and syncing a large file to a slow disk takes minutes."""
    syncing, synced = threading.Event(), threading.Event()

    def fsync(fd: int) -> None:
        syncing.set()
        assert synced.wait(30)

    monkeypatch.setattr(os, "fsync", fsync)

    async def main() -> None:
        incoming = IncomingFiles(cast(Disk, _Place(tmp_path)))
        await incoming.write(b"data")
        finish = asyncio.create_task(incoming.finish())
        await asyncio.to_thread(syncing.wait)
        finish.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finish
        incoming.discard()
        assert not synced.is_set()
        assert os.listdir(tmp_path) == ["file"]
        synced.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        assert os.listdir(tmp_path) == []

    # Blocked, the loop would never come to let the disk go on.
    asyncio.run(main())
