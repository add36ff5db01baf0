"""pylxd takes snapshots, restores, copies and renames, as its own integration tests do."""

from collections.abc import Iterator
from typing import Any

import pylxd
import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, place

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    # It leaves its websockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture
def client(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # It warns of fields that it does not know, LXD's as well as ours.
    monkeypatch.setenv("PYLXD_WARNINGS", "none")
    client = pylxd.Client(endpoint=str(daemon.socket))
    yield client
    client.api.session.close()


@pytest.fixture
def web(client: Any) -> Iterator[Any]:
    source = {"type": "image", "alias": "example"}
    instance = client.instances.create({"name": "web", "source": source}, wait=True)
    yield instance
    for left in client.instances.all():
        if left.status == "Running":
            left.stop(force=True, wait=True)
        left.delete(wait=True)


def test_snapshots(client: Any, web: Any) -> None:
    snapshot = web.snapshots.create("first", stateful=False, wait=True)
    assert snapshot.name == "first"
    assert [found.name for found in web.snapshots.all()] == ["first"]
    snapshot = web.snapshots.get("first")
    assert snapshot.instance is web
    snapshot.rename("renamed", wait=True)
    assert web.snapshots.get("renamed").name == "renamed"
    with pytest.raises(pylxd.exceptions.NotFound):
        web.snapshots.get("first")
    web.snapshots.get("renamed").delete(wait=True)
    assert web.snapshots.all() == []


def test_restore(client: Any, web: Any) -> None:
    web.start(wait=True)
    assert web.execute(["sh", "-c", "echo one > /data"]).exit_code == 0
    web.snapshots.create("first", wait=True)
    assert web.execute(["rm", "/data"]).exit_code == 0
    web.restore_snapshot("first", wait=True)
    assert web.execute(["cat", "/data"]).stdout == "one\n"
    snapshot = web.snapshots.get("first")
    assert web.execute(["rm", "/data"]).exit_code == 0
    snapshot.restore(wait=True)
    assert web.execute(["cat", "/data"]).stdout == "one\n"


def test_copy_and_rename(client: Any, web: Any) -> None:
    web.snapshots.create("first", wait=True)
    twin = client.instances.create({"name": "twin", "source": {"type": "copy", "source": "web"}}, wait=True)
    assert [found.name for found in twin.snapshots.all()] == ["first"]
    twin.rename("db", wait=True)
    assert twin.name == "db"
    assert client.instances.exists("db")
    assert not client.instances.exists("twin")
