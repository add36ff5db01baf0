"""The blocking client: every method runs its asynchronous twin on one background event loop.

It holds no logic, only names, so the two clients can't differ. It may be used by several threads at once. Callbacks run
on the loop's thread and must not call the client.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from lxdpy.client.aio import (
    AsyncClient,
    AsyncImage,
    AsyncImages,
    AsyncInstance,
    AsyncInstances,
    AsyncOperations,
)
from lxdpy.client.operation import AsyncOperation
from lxdpy.client.process import AsyncProcess
from lxdpy.client.records import Event, ImageRecord, InstanceRecord, OperationRecord

P = ParamSpec("P")
T = TypeVar("T")
Core = TypeVar("Core")


class LoopThread:
    """An event loop on a daemon thread, started by the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop and wait; an interrupt of the wait (Ctrl-C) cancels it."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("A callback of lxdpy.Client must not call the client: it would wait for itself")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End loop and thread; a later call starts new ones."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="lxdpy-client", daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is told to stop, then end what still runs on it."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        # The runner closes what it made, and only what it made.
        runner.get_loop().run_forever()


class _Blocking(Generic[Core]):
    """An asynchronous object and the loop that it lives on."""

    def __init__(self, core: Core, thread: LoopThread) -> None:
        self._core = core
        self._thread = thread

    def _iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        try:
            while (item := self._thread.call(_next(source))) is not None:
                yield item
        finally:
            if isinstance(source, AsyncGenerator):
                self._thread.call(_close(source))


async def _next(source: AsyncIterator[T]) -> T | None:
    return await anext(source, None)


async def _close(source: AsyncGenerator[Any, None]) -> None:
    await source.aclose()


@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncInstance]],
) -> "Callable[Concatenate[Any, P], Instance]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, list[AsyncInstance]]],
) -> "Callable[Concatenate[Any, P], list[Instance]]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncImage]],
) -> "Callable[Concatenate[Any, P], Image]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, list[AsyncImage]]],
) -> "Callable[Concatenate[Any, P], list[Image]]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncOperation]],
) -> "Callable[Concatenate[Any, P], Operation]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, list[AsyncOperation]]],
) -> "Callable[Concatenate[Any, P], list[Operation]]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncProcess]],
) -> "Callable[Concatenate[Any, P], Process]": ...
@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]: ...
def blocking(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """The blocking twin of an asynchronous method: same name, arguments and docstring; objects come back blocking."""

    @wraps(method)
    def call(self: _Blocking[Any], *args: Any, **kwargs: Any) -> Any:
        args = tuple(arg._core if isinstance(arg, _Blocking) else arg for arg in args)
        return _wrap(self._thread.call(method(self._core, *args, **kwargs)), self._thread)

    return call


class Operation(_Blocking[AsyncOperation]):
    """A background operation; see AsyncOperation."""

    @property
    def record(self) -> OperationRecord:
        """Its last known state."""
        return self._core.record

    @property
    def id(self) -> str:
        """The operation's UUID."""
        return self._core.id

    refresh = blocking(AsyncOperation.refresh)
    wait = blocking(AsyncOperation.wait)
    cancel = blocking(AsyncOperation.cancel)

    def progress(self) -> Iterator[OperationRecord]:
        """Every state from now to the end; does not raise for a failure."""
        return self._iterate(self._core.progress())


class Process(_Blocking[AsyncProcess]):
    """A running command; see AsyncProcess. Leaving `with` before its end kills it."""

    write = blocking(AsyncProcess.write)
    close_stdin = blocking(AsyncProcess.close_stdin)
    resize = blocking(AsyncProcess.resize)
    signal = blocking(AsyncProcess.signal)
    wait = blocking(AsyncProcess.wait)
    communicate = blocking(AsyncProcess.communicate)
    close = blocking(AsyncProcess.aclose)

    def output(self) -> Iterator[tuple[str, bytes]]:
        """Pieces of output as they come, each with "stdout" or "stderr"."""
        return self._iterate(self._core.output())

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Image(_Blocking[AsyncImage]):
    """A local image; see AsyncImage."""

    @property
    def record(self) -> ImageRecord:
        """As of the last refresh."""
        return self._core.record

    @property
    def fingerprint(self) -> str:
        """Its id: 64 hex digits."""
        return self._core.fingerprint

    refresh = blocking(AsyncImage.refresh)
    ancestry = blocking(AsyncImage.ancestry)
    delete = blocking(AsyncImage.delete)


class Instance(_Blocking[AsyncInstance]):
    """An instance; see AsyncInstance."""

    @property
    def record(self) -> InstanceRecord:
        """As of the last refresh."""
        return self._core.record

    @property
    def name(self) -> str:
        """Its name."""
        return self._core.name

    @property
    def status(self) -> str:
        """Running, Stopped, Frozen ... as of the last refresh."""
        return self._core.status

    info = blocking(AsyncInstance.info)
    refresh = blocking(AsyncInstance.refresh)
    state = blocking(AsyncInstance.state)
    start = blocking(AsyncInstance.start)
    stop = blocking(AsyncInstance.stop)
    shutdown = blocking(AsyncInstance.shutdown)
    restart = blocking(AsyncInstance.restart)
    freeze = blocking(AsyncInstance.freeze)
    unfreeze = blocking(AsyncInstance.unfreeze)
    delete = blocking(AsyncInstance.delete)
    exec = blocking(AsyncInstance.exec)
    execute = blocking(AsyncInstance.execute)
    logs = blocking(AsyncInstance.logs)
    wait = blocking(AsyncInstance.wait)

    def follow(self, *, tail: int | None = None) -> Iterator[bytes]:
        """The console from its beginning (or `tail` lines back) until the instance stops."""
        return self._iterate(self._core.follow(tail=tail))


class Operations(_Blocking[AsyncOperations]):
    """`client.operations`."""

    list = blocking(AsyncOperations.list)
    get = blocking(AsyncOperations.get)


class Images(_Blocking[AsyncImages]):
    """`client.images`."""

    list = blocking(AsyncImages.list)
    get = blocking(AsyncImages.get)
    pull = blocking(AsyncImages.pull)
    begin_pull = blocking(AsyncImages.begin_pull)


class Instances(_Blocking[AsyncInstances]):
    """`client.instances`."""

    list = blocking(AsyncInstances.list)
    get = blocking(AsyncInstances.get)
    create = blocking(AsyncInstances.create)
    begin_create = blocking(AsyncInstances.begin_create)
    run = blocking(AsyncInstances.run)


class Client(_Blocking[AsyncClient]):
    """One daemon on its unix socket (default: `endpoint.socket_path()`), for blocking code."""

    def __init__(self, socket: str | None = None, *, timeout: float = 60.0, project: str | None = None) -> None:
        super().__init__(AsyncClient(socket, timeout=timeout, project=project), LoopThread())
        self.instances = Instances(self._core.instances, self._thread)
        self.images = Images(self._core.images, self._thread)
        self.operations = Operations(self._core.operations, self._thread)

    @classmethod
    def from_env(cls) -> "Client":
        """The client that LXDPY_SOCKET, LXD_SOCKET or LXD_DIR point at."""
        return cls()

    @property
    def socket(self) -> str:
        """Path of the daemon's socket."""
        return self._core.socket

    request = blocking(AsyncClient.request)
    submit = blocking(AsyncClient.submit)
    info = blocking(AsyncClient.info)

    def events(self, types: Sequence[str] = ()) -> Iterator[Event]:
        """Events from now on, of `types` (operation, lifecycle, logging) or all. Raises ConnectionFailed at its end."""
        return self._iterate(self._core.events(types))

    def close(self) -> None:
        """Close all connections and end the background thread."""
        self._thread.call(self._core.aclose())
        self._thread.stop()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_WRAPPERS: dict[type, type[_Blocking[Any]]] = {
    AsyncInstance: Instance,
    AsyncImage: Image,
    AsyncOperation: Operation,
    AsyncProcess: Process,
}


def _wrap(result: Any, thread: LoopThread) -> Any:
    """The blocking twin of what an asynchronous method returned."""
    if isinstance(result, list):
        return [_wrap(item, thread) for item in result]
    wrapper = _WRAPPERS.get(type(result))
    return result if wrapper is None else wrapper(result, thread)
