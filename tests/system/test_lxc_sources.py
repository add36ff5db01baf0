"""Where images come from, with LXD's own client: registries by name; and how the server is configured."""

import json
import time
from collections.abc import Iterator

import pytest
from example_image import Blob, Image, Pusher
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, Failed, place
from tests.system.lxc import Lxc

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
]


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry, example_image: Image) -> Iterator[Daemon]:
    registry = example_registry
    Pusher(registry.host, "alpine", user=registry.user, password=registry.password).push(example_image, "3.20")
    config = f'[images]\ndefault_registry = "{registry.host}"\n'
    with place() as directory, Daemon(directory / "state", config=config) as running:
        # The connection to the token server, which is in this process, stays open from now on.
        running.get(f"/1.0/images/aliases/{registry.host}/example:1")
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    client = Lxc(daemon.state_dir, daemon.state_dir.parent / "home")
    client.ok("remote", "add", "docker", f"unix://{daemon.socket}")
    return client


@pytest.fixture
def no_images(daemon: Daemon) -> Iterator[None]:
    yield
    for url in daemon.get("/1.0/instances"):
        if daemon.get(url)["status"] != "Stopped":
            daemon.act(url.rpartition("/")[2], "stop", force=True)
        daemon.wait(daemon.request("DELETE", url))
    for url in daemon.get("/1.0/images"):
        daemon.wait(daemon.request("DELETE", url))


@pytest.mark.usefixtures("no_images")
def test_launch_from_a_registry(lxc: Lxc, daemon: Daemon, example_registry: ExampleRegistry) -> None:
    info = lxc.yaml("image", "info", "docker:alpine:3.20")
    assert (info["Type"], info["Auto update"], info["Cached"]) == ("container", "disabled", False)
    assert info["Properties"]["type"] == "oci"
    assert lxc.json("image", "list", "docker:") == []
    output = lxc.ok("launch", "docker:alpine:3.20", "c1")
    assert "Retrieving image" in output or "Creating c1" in output
    (image,) = lxc.json("image", "list")
    assert image["fingerprint"] == info["Fingerprint"]
    assert [alias["name"] for alias in image["aliases"]] == [f"{example_registry.host}/alpine:3.20"]
    assert lxc.ok("exec", "c1", "--", "echo", "hello") == "hello\n"
    # A host in the name, and the same remote as everything else.
    lxc.ok("launch", f"local:{example_registry.host}/example:1", "c2")
    assert {instance["status"] for instance in lxc.json("list")} == {"Running"}


@pytest.mark.usefixtures("no_images")
def test_a_pinned_image(lxc: Lxc, daemon: Daemon, example_image: Image, example_registry: ExampleRegistry) -> None:
    digest = example_image.manifest.digest
    lxc.ok("init", f"docker:{example_registry.host}/example@{digest}", "c1")
    config = daemon.get("/1.0/instances/c1")["config"]
    assert config["volatile.base_image"] == str(digest).removeprefix("sha256:")
    # As Incus asks for it.
    source = {
        "type": "image",
        "mode": "pull",
        "protocol": "oci",
        "server": f"http://{example_registry.host}",
        "alias": f"example@{digest}",
        "fingerprint": "0" * 64,
    }
    daemon.create("c2", source, start=False)
    assert daemon.get("/1.0/instances/c2")["config"]["volatile.base_image"] == config["volatile.base_image"]


def greeting(image: Image, text: str) -> Image:
    """The image with another configuration."""
    config = json.loads(image.config.data)
    config["config"]["Env"] = ["PATH=/bin", f"GREETING={text}"]
    blob = Blob(image.config.media_type, json.dumps(config).encode())
    manifest = {**json.loads(image.manifest.data), "config": blob.descriptor}
    return Image(Blob(image.manifest.media_type, json.dumps(manifest).encode()), blob, image.layers)


@pytest.mark.usefixtures("no_images")
def test_a_tag_that_moves(lxc: Lxc, daemon: Daemon, example_image: Image, example_registry: ExampleRegistry) -> None:
    registry = example_registry
    pusher = Pusher(registry.host, "moving", user=registry.user, password=registry.password)
    pusher.push(greeting(example_image, "old"), "1")
    source = {"type": "image", "protocol": "oci", "alias": "moving:1"}
    body = {"source": source, "auto_update": True, "aliases": [{"name": "mine"}]}
    daemon.wait(daemon.request("POST", "/1.0/images", body))
    lxc.ok("launch", "mine", "c1")
    assert "already up to date" in lxc.ok("image", "refresh", "mine")
    pusher.push(greeting(example_image, "new"), "1")
    # One that is here is taken as it is, until it is refreshed.
    lxc.ok("launch", "docker:moving:1", "c2")
    assert lxc.ok("exec", "c2", "--", "sh", "-c", "echo $GREETING") == "old\n"
    assert "refreshed successfully" in lxc.ok("image", "refresh", "mine")
    (image,) = lxc.json("image", "list")
    assert [alias["name"] for alias in image["aliases"]] == [f"{registry.host}/moving:1", "mine"]
    assert image["auto_update"]
    lxc.ok("launch", "mine", "c3")
    assert lxc.ok("exec", "c3", "--", "sh", "-c", "echo $GREETING") == "new\n"
    lxc.ok("restart", "c1", "--force")
    assert lxc.ok("exec", "c1", "--", "sh", "-c", "echo $GREETING") == "old\n"
    pusher.push(greeting(example_image, "newest"), "1")
    # A new interval has the daemon look at once.
    lxc.ok("config", "set", "images.auto_update_interval", "5")
    deadline = time.monotonic() + 60
    while [found["fingerprint"] for found in lxc.json("image", "list")][:1] == [image["fingerprint"]]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lxc.ok("config", "unset", "images.auto_update_interval")


def test_typing_errors_fail_with_a_reason(lxc: Lxc, daemon: Daemon, example_registry: ExampleRegistry) -> None:
    def requests() -> int:
        return example_registry.log.read_text().count('"GET /v2/')

    before = requests()
    for name in ("foo", "alpine/3.20", "docker:alpine"):
        assert "not found" in lxc.fails("image", "info", name)
        assert "not found" in lxc.fails("launch", name, "c1")
    assert requests() == before
    for name in ("docker:alpin:3.20", f"docker:{example_registry.host}/nothing:1"):
        assert "has no" in lxc.fails("image", "info", name)
        assert "has no" in lxc.fails("launch", name, "c1")
    assert "Cannot reach registry.invalid" in lxc.fails("launch", "docker:registry.invalid/app:1", "c1")
    assert daemon.get("/1.0/instances") == []
    with pytest.raises(Failed) as failed:
        daemon.get("/1.0/images/aliases/alpin:3.20")
    assert failed.value.status == 404


def test_the_client_copies_no_image_to_where_it_is(lxc: Lxc) -> None:
    assert "must be different" in lxc.fails("image", "copy", "docker:alpine:3.20", "local:")


def test_an_image_that_was_looked_up_before_the_daemon_ended(example_registry: ExampleRegistry) -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        target = daemon.get(f"/1.0/images/aliases/{example_registry.host}/example:1")["target"]
        assert daemon.get(f"/1.0/images/{target}")["type"] == "container"
        daemon.stop()
        daemon.start()
        with pytest.raises(Failed, match="name it again"):
            daemon.request("POST", "/1.0/instances", {"name": "c1", "source": {"type": "image", "fingerprint": target}})
        assert daemon.get("/1.0/instances") == []


def test_server_configuration(lxc: Lxc) -> None:
    lxc.ok("config", "set", "images.auto_update_interval", "12")
    lxc.ok("config", "set", "user.owner=ops", "images.auto_update_cached=false")
    assert lxc.ok("config", "get", "images.auto_update_interval") == "12\n"
    wanted = {"images.auto_update_cached": "false", "images.auto_update_interval": "12", "user.owner": "ops"}
    assert lxc.yaml("config", "show") == {"config": wanted}
    lxc.ok("config", "unset", "images.auto_update_cached")
    lxc.ok("config", "edit", stdin=b"config:\n  user.owner: dev\n")
    assert lxc.yaml("config", "show") == {"config": {"user.owner": "dev"}}
    assert "unknown key" in lxc.fails("config", "set", "nothing", "x")
    assert "invalid integer" in lxc.fails("config", "set", "images.remote_cache_expiry", "soon")
    assert "unix socket only" in lxc.fails("config", "set", "core.https_address", ":8443")
    assert "unix socket" in lxc.fails("config", "set", "core.trust_password", "secret")
    lxc.ok("config", "unset", "user.owner")
    assert lxc.yaml("config", "show") == {"config": {}}
