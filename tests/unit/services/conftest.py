"""Services on drivers that live in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lxdpy.config import Config
from lxdpy.db.connection import Database
from lxdpy.services import architectures
from lxdpy.services.images import ImageService, ImageUpkeep
from lxdpy.services.instances import InstanceService, Profiles
from lxdpy.services.networks import NetworkService
from lxdpy.services.projects import ProjectService
from lxdpy.services.server_config import ServerConfig
from lxdpy.services.storage import StorageService
from tests.fakes.drivers import (
    FakeContainers,
    FakeImageServers,
    FakeLeaseServer,
    FakeNetworkHost,
    FakeProbe,
    FakeRegistry,
    FakeRenderer,
    FakeStore,
    FakeTrees,
)


@dataclass
class Host:
    """Everything that a test can look at."""

    config: Config
    database: Database
    store: FakeStore
    registry: FakeRegistry
    containers: FakeContainers
    network_host: FakeNetworkHost
    renderer: FakeRenderer
    server_config: ServerConfig
    lease_server: FakeLeaseServer
    servers: FakeImageServers
    images: ImageService
    upkeep: ImageUpkeep
    networks: NetworkService
    storage: StorageService
    projects: ProjectService
    profiles: Profiles
    trees: FakeTrees
    instances: InstanceService
    events: list[tuple[str, str]]


async def build(
    state_dir: Path,
    *,
    store: FakeStore,
    registry: FakeRegistry,
    containers: FakeContainers,
    servers: FakeImageServers | None = None,
) -> Host:
    """Services as the daemon builds them."""
    config = Config(state_dir=state_dir)
    servers = servers or FakeImageServers()
    database = Database(state_dir / "lxdpy.db")
    events: list[tuple[str, str]] = []

    def announce(action: str, source: str, context: object = None) -> None:
        events.append((action, source))

    server_config = ServerConfig(database, announce, architectures.of_host())
    network_host, lease_server = FakeNetworkHost(), FakeLeaseServer()
    projects = ProjectService(database, announce)
    profiles = Profiles(database, projects, announce, config.network.bridge)
    networks = NetworkService(config, database, network_host, lease_server, announce)
    images = ImageService(config, database, store, registry, servers, server_config, projects, announce)
    renderer = FakeRenderer()
    trees = FakeTrees()
    storage = StorageService(config, database, trees, store, projects, announce)
    instances = InstanceService(
        config,
        database,
        store,
        containers,
        FakeProbe(),
        renderer,
        images,
        networks,
        storage,
        projects,
        profiles,
        announce,
    )
    await server_config.load()
    await projects.load()
    await profiles.load()
    await images.load()
    await networks.load()
    await storage.load()
    await instances.load()
    return Host(
        config,
        database,
        store,
        registry,
        containers,
        network_host,
        renderer,
        server_config,
        lease_server,
        servers,
        images,
        ImageUpkeep(images, server_config),
        networks,
        storage,
        projects,
        profiles,
        trees,
        instances,
        events,
    )


Scenario = Callable[[Host], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Run scenarios one after the other, each on a new daemon over the same disk and the same containers."""
    store, registry, containers = FakeStore(), FakeRegistry(), FakeContainers()
    servers = FakeImageServers()

    def run(*scenarios: Scenario) -> None:
        async def one(scenario: Scenario) -> None:
            host = await build(tmp_path, store=store, registry=registry, containers=containers, servers=servers)
            try:
                await scenario(host)
            finally:
                await host.instances.close()
                await host.networks.close()
                await host.storage.close()
                host.database.close()

        for scenario in scenarios:
            asyncio.run(one(scenario))

    return run
