"""The daemon: build every object once, serve the socket, stop in order.

SIGTERM or SIGINT: new work is refused; running operations get `shutdown.timeout_s` to finish, then they are cancelled
and roll back; the API answers until then, so that clients see how their operations end. Containers go on.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from lxdpy import config, log
from lxdpy.api.app import create_app
from lxdpy.api.deps import Services
from lxdpy.api.errors import http_status
from lxdpy.api.server import server_config
from lxdpy.config import Config
from lxdpy.daemon import host, sockets, systemd
from lxdpy.daemon.upkeep import image_tasks
from lxdpy.db.connection import Database
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.drivers.network import Dnsmasq, HostNetwork
from lxdpy.drivers.probe import CgroupProbe
from lxdpy.drivers.registry import RegistryClient
from lxdpy.drivers.resources import HostResources
from lxdpy.drivers.simplestreams import StreamsClient
from lxdpy.drivers.store import LayerStore
from lxdpy.drivers.templates import TemplateWorkers
from lxdpy.drivers.volumes import HostVolumes
from lxdpy.errors import LxdpyError
from lxdpy.operations import Events, Operations
from lxdpy.services import architectures
from lxdpy.services.images import ImageService, ImageUpkeep
from lxdpy.services.instances import InstanceService, Profiles
from lxdpy.services.networks import NetworkService
from lxdpy.services.projects import ProjectService
from lxdpy.services.server_config import ServerConfig
from lxdpy.services.storage import StorageService

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to the daemon."""

    def capture_signals(self) -> Any:
        return nullcontext()


def run(state_dir: Path, config_file: Path | None, group: str, debug: bool) -> int:
    """Run the daemon until it is told to stop; returns the exit code."""
    log.setup(debug=debug)
    try:
        host.check()
        settings = config.load(state_dir.absolute(), config_file)
        lock = sockets.lock(settings.state_dir)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, group))
        finally:
            os.close(lock)
    except LxdpyError as exc:
        logger.error("%s", exc)
        return 1
    return 0


async def _serve(settings: Config, group: str) -> None:
    signals = _Signals(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        database = Database(settings.state_dir / "lxdpy.db")
        stack.callback(database.close)
        events = Events()
        operations = Operations(events, error_code=http_status)
        store = LayerStore(settings)
        stack.push_async_callback(store.close)
        registry = RegistryClient(settings)
        stack.push_async_callback(registry.aclose)
        containers = LxcContainers(settings)
        stack.push_async_callback(containers.close)
        renderer = TemplateWorkers()
        stack.push_async_callback(renderer.close)
        probe = CgroupProbe()
        stack.callback(probe.close)

        server_config = ServerConfig(database, events.lifecycle, architectures.of_host())
        projects = ProjectService(database, events.lifecycle)
        profiles = Profiles(database, projects, events.lifecycle, settings.network.bridge)
        networks = NetworkService(settings, database, HostNetwork(), Dnsmasq(settings.state_dir), events.lifecycle)
        storage = StorageService(
            settings, database, HostVolumes(settings.workers.lifecycle), store, projects, events.lifecycle
        )
        stack.push_async_callback(storage.close)
        images = ImageService(
            settings, database, store, registry, StreamsClient(), server_config, projects, events.lifecycle
        )
        upkeep = ImageUpkeep(images, server_config)
        instances = InstanceService(
            settings,
            database,
            store,
            containers,
            probe,
            renderer,
            images,
            networks,
            storage,
            projects,
            profiles,
            events.lifecycle,
        )
        await server_config.load()
        await projects.load()
        await profiles.load()
        await images.load()
        await networks.load()
        stack.push_async_callback(networks.close)
        await storage.load()
        await instances.load()
        stack.push_async_callback(instances.close)
        app = create_app(
            Services(
                config=settings,
                operations=operations,
                events=events,
                images=images,
                upkeep=upkeep,
                instances=instances,
                networks=networks,
                projects=projects,
                profiles=profiles,
                hardware=HostResources(),
                storage=storage,
                server_config=server_config,
                lxc_version=await containers.version(),
            )
        )
        for task in image_tasks(upkeep, server_config, operations):
            task.start()
            stack.push_async_callback(task.close)
        sock = sockets.listen(settings.socket_path, group)
        stack.callback(sock.close)
        await _listen(app, sock, operations, events, settings, signals)


class _Signals:
    """SIGTERM and SIGINT: the first asks to stop, also during the start; the next one ends the waiting for work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._arrived)

    def _arrived(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


async def _listen(
    app: Any, sock: socket.socket, operations: Operations, events: Events, settings: Config, signals: _Signals
) -> None:
    server = _Server(server_config(app))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    systemd.notify("READY=1")
    logger.info("Serving the API on %s", settings.socket_path)
    try:
        # 0.15 s that nobody should wait for, neither the daemon's start nor its first pull.
        await asyncio.to_thread(import_module, "httpx")
        await _first(signals.stop.wait(), serving)
        systemd.notify("STOPPING=1")
        logger.info("Stopping: no new work is taken")
        draining = asyncio.create_task(operations.drain(settings.shutdown.timeout_s))
        await _first(signals.hurry.wait(), draining)
        if not draining.done():
            logger.info("Told again to stop: running work is cancelled")
            await operations.drain(0)
        await draining
        events.close()
    finally:
        server.should_exit = True
        await serving


async def _first(event: Coroutine[Any, Any, object], job: asyncio.Task[None]) -> None:
    """Wait for either."""
    waiting = asyncio.create_task(event)
    try:
        await asyncio.wait([waiting, job], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
