"""Whatever is sent, the answer is a documented one: schemathesis against the API on services in memory."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from lxdpy.api import openapi
from lxdpy.api.server import server_config
from lxdpy.config import NetworkConfig
from lxdpy.drivers.resources import HostResources
from tests.fakes.api_server import api_app
from tests.fakes.drivers import FakeContainers, FakeRegistry, FakeStore, image_documents
from tests.unit.services.conftest import build

schema = schemathesis.openapi.from_dict(openapi.document())

load_all_checks()
_CHECKS = CHECKS.get_by_names(["status_code_conformance", "content_type_conformance", "response_schema_conformance"])


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


async def _serve(directory: Any, ready: threading.Event, found: dict[str, Any]) -> None:
    host = await build(directory, store=FakeStore(), registry=FakeRegistry(), containers=FakeContainers())
    app, _, operations = api_app(
        config=host.config,
        images=host.images,
        upkeep=host.upkeep,
        instances=host.instances,
        networks=host.networks,
        storage=host.storage,
        hardware=HostResources(),
        server_config=host.server_config,
        projects=host.projects,
        profiles=host.profiles,
    )
    host.registry.images["docker.io/library/app:latest"] = image_documents()
    config = server_config(app)
    config.port = 0
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    found["server"] = server
    found["url"] = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    ready.set()
    await serving
    await operations.drain(0)
    await host.instances.close()
    host.database.close()


@dataclass(frozen=True, slots=True)
class Target:
    """Where the API is, and what exists there."""

    url: str
    known: Mapping[str, Mapping[str, str]]
    """Path parameters of things that exist, by the beginning of the path; the longest counts."""

    def parameters(self, path: str) -> Mapping[str, str]:
        """Path parameters with which `path` leads to something."""
        return self.known[max((start for start in self.known if path.startswith(start)), key=len)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The API, served by a thread, with a running instance, its image, and an alias of that."""
    ready = threading.Event()
    found: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: asyncio.run(_serve(tmp_path_factory.mktemp("api"), ready, found)))
    thread.start()
    assert ready.wait(10)
    try:
        with httpx.Client(base_url=found["url"]) as http:
            source = {"type": "image", "protocol": "oci", "server": "https://docker.io", "alias": "app"}
            made = http.post("/1.0/instances", json={"name": "web", "source": source, "start": True}).json()
            assert http.get(f"{made['operation']}/wait").json()["metadata"]["err"] == ""
            http.post("/1.0/storage-pools/default/volumes/custom", json={"name": "data"})
            taken = http.post("/1.0/storage-pools/default/volumes/custom/data/snapshots", json={}).json()
            assert http.get(f"{taken['operation']}/wait").json()["metadata"]["err"] == ""
            (image,) = http.get("/1.0/images?recursion=1").json()["metadata"]
            alias = {"name": "app", "target": image["fingerprint"]}
            assert http.post("/1.0/images/aliases", json=alias).status_code in (200, 201)
        known = {
            "/": {},
            "/1.0/images": {"fingerprint": image["fingerprint"]},
            "/1.0/images/aliases": {"name": "app"},
            "/1.0/instances": {"name": "web", "file": "lxc.log"},
            "/1.0/networks": {"name": NetworkConfig().bridge},
            "/1.0/operations": {"id": "none"},
            "/1.0/profiles": {"name": "default"},
            "/1.0/projects": {"name": "default"},
            "/1.0/storage-pools": {"pool": "default", "type": "custom", "volume": "data", "snapshot": "snap0"},
        }
        yield Target(found["url"], known)
    finally:
        found["server"].should_exit = True
        thread.join(10)
    assert not thread.is_alive()


@schema.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_answers_are_documented(case: schemathesis.Case, target: Target) -> None:
    # What would wait for the end of a running instance must not.
    if "timeout" in (case.query or {}) or case.path.endswith("/wait"):
        case.query = {**case.query, "timeout": "0"}
    case.query.pop("follow", None)
    _check(case, target.url)
    if case.path_parameters:
        case.path_parameters.update(target.parameters(case.path))
        _check(case, target.url)


def _check(case: schemathesis.Case, url: str) -> None:
    response = case.call(base_url=url, timeout=20)
    assert response.status_code != 500, response.text
    case.validate_response(response, checks=_CHECKS)
