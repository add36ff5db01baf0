"""Turns what a job reports into operation metadata, at most about ten times a second.

layers             [{"digest": ..., "size": ..., "done": ..., "state": ...}]   in the order first heard of
download_progress  "4/9 layers, 120.3MB/180.0MB (95.1MB/s)"                    any `*_progress` is shown by lxc
"""

import asyncio
from collections.abc import Callable, Mapping

from lxdpy.progress import LayerProgress, LayerState

INTERVAL_S = 0.1


class OperationProgress:
    """The `Progress` of one operation. Use it on the event loop's thread."""

    def __init__(self, publish: Callable[[Mapping[str, object]], None]) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._layers: dict[str, LayerProgress] = {}
        self._notes: dict[str, object] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_flush = float("-inf")
        self._began: float | None = None
        self._closed = False

    def layer(self, update: LayerProgress) -> None:
        """Note the state of one layer."""
        if self._began is None and update.state is LayerState.DOWNLOADING:
            self._began = self._loop.time()
        self._layers[update.digest] = update
        self._schedule()

    def note(self, values: Mapping[str, object]) -> None:
        """Merge `values` into the metadata."""
        self._notes.update(values)
        self._schedule()

    def finish(self) -> Mapping[str, object]:
        """Stop publishing; what has not been published yet."""
        self._closed = True
        if self._timer is None:
            return {}
        self._timer.cancel()
        self._timer = None
        return self._take()

    def _schedule(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_at(self._last_flush + INTERVAL_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._last_flush = self._loop.time()
        self._publish(self._take())

    def _take(self) -> dict[str, object]:
        values, self._notes = self._notes, {}
        if self._layers:
            layers = self._layers.values()
            values["layers"] = [
                {
                    "digest": layer.digest,
                    "size": layer.size_bytes,
                    "done": layer.done_bytes,
                    "state": layer.state.value,
                }
                for layer in layers
            ]
            values["download_progress"] = self._text()
        return values

    def _text(self) -> str:
        layers = self._layers.values()
        ready = sum(layer.state in (LayerState.DONE, LayerState.EXISTS) for layer in layers)
        fetched = [layer for layer in layers if layer.state is not LayerState.EXISTS]
        text = f"{ready}/{len(layers)} layers"
        if not fetched:
            return text
        done = sum(layer.done_bytes for layer in fetched)
        text += f", {_megabytes(done)}/{_megabytes(sum(layer.size_bytes for layer in fetched))}"
        if self._began is not None and (elapsed := self._loop.time() - self._began) > 0:
            text += f" ({_megabytes(done / elapsed)}/s)"
        return text


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f}MB"
