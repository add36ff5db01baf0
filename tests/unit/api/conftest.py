"""The API on real services, whose drivers live in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.fakes.api_server import Api, serve
from tests.fakes.drivers import FakeContainers, FakeRegistry, FakeStore, image_documents
from tests.unit.services.conftest import Host, build

Scenario = Callable[[Api, Host], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    """Run one scenario on a daemon whose registry has the image `app`."""

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            registry = FakeRegistry()
            registry.images["docker.io/library/app:latest"] = image_documents((b"one", b"two"), Env=["FOO=image"])
            host = await build(tmp_path, store=FakeStore(), registry=registry, containers=FakeContainers())
            try:
                async with serve(
                    tmp_path,
                    images=host.images,
                    upkeep=host.upkeep,
                    instances=host.instances,
                    networks=host.networks,
                    storage=host.storage,
                    projects=host.projects,
                    profiles=host.profiles,
                    server_config=host.server_config,
                ) as api:
                    await scenario(api, host)
            finally:
                await host.instances.close()
                host.database.close()

        asyncio.run(main())

    return run
