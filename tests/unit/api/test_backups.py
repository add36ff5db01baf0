"""Routes of backups: how they are compressed."""

from collections.abc import Callable

from lxdpy.drivers.base import Compression
from tests.fakes.api_server import Api
from tests.unit.api.conftest import Scenario
from tests.unit.api.test_instances import make, send
from tests.unit.services.conftest import Host

INSTANCE = "/1.0/instances/web/backups"
VOLUMES = "/1.0/storage-pools/default/volumes/custom"


def test_the_server_says_how_backups_are_compressed_unless_the_client_does(play: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        await send(api, "POST", VOLUMES, {"name": "data"})
        assert await send(api, "PUT", "/1.0", {"config": {"backups.compression_algorithm": "zstd -3"}}) == (200, {})
        for path in (INSTANCE, f"{VOLUMES}/data/backups"):
            assert await send(api, "POST", path, {}) == (200, "")
            assert await send(api, "POST", path, {"compression_algorithm": "none"}) == (200, "")
        assert host.store.compressions == [Compression("zstd", 3), Compression("none")] * 2
        # A backup is a tarball.
        refused = await send(api, "PUT", "/1.0", {"config": {"backups.compression_algorithm": "squashfs"}})
        assert refused[0] == 400

    play(scenario)
