"""A client of registries in a home without credentials, and registries to ask."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from lxdpy.config import Config, RegistryConfig
from lxdpy.drivers.base import ResolvedImage
from lxdpy.drivers.registry import RegistryClient
from lxdpy.oci.digest import Digest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from tests.fakes.certificates import Certificates, make
from tests.fakes.registry import FaultyRegistry

T = TypeVar("T")

AMD64 = Platform("linux", "amd64")


class Puller:
    """Runs a client of its own for each job; tells what the client asked the host for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.registries: dict[str, RegistryConfig] = {}
        self.idle_timeout_s = 10.0

    def log_in(self, host: str, user: str, password: str, **more: str) -> None:
        """Leave credentials where docker does."""
        path = self.home / ".docker/config.json"
        path.parent.mkdir(exist_ok=True)
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        path.write_text(json.dumps({"auths": {host: {"auth": auth, **more}}}))

    def run(self, job: Callable[[RegistryClient], Awaitable[T]]) -> T:
        """Do `job` with a client."""

        async def main() -> T:
            config = Config(registries=self.registries)
            client = RegistryClient(config, idle_timeout_s=self.idle_timeout_s, certs_dirs=(self.home / "certs.d",))
            try:
                return await job(client)
            finally:
                await client.aclose()

        return asyncio.run(main())

    def resolve(
        self,
        text: str,
        platform: Platform = AMD64,
        cached: Mapping[Digest, bytes] | None = None,
    ) -> ResolvedImage:
        """Resolve a reference once."""
        return self.run(lambda client: client.resolve(Reference.parse(text), platform, cached=dict(cached or {}).get))


@pytest.fixture
def puller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Puller:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    return Puller(home)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as registry:
        yield registry


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))
