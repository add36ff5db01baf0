"""`lxc config *` of instances: configuration, devices, and what PUT and PATCH keep."""

from collections.abc import Iterator

import pytest
import yaml
from example_registry import ExampleRegistry

from tests.system.daemon import BRIDGE, Daemon, Failed, place
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
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


@pytest.fixture(scope="module", autouse=True)
def c1(lxc: Lxc) -> None:
    lxc.ok("init", "example", "c1")


def test_set_get_unset(lxc: Lxc) -> None:
    lxc.ok("config", "set", "c1", "user.a=1", "user.b=two words")
    assert lxc.ok("config", "get", "c1", "user.b") == "two words\n"
    lxc.ok("config", "set", "c1", "user.a", "old spelling")
    assert lxc.ok("config", "get", "c1", "user.a") == "old spelling\n"
    lxc.ok("config", "set", "c1", "user.text", "-", stdin=b"many\nlines\n")
    lxc.ok("config", "set", "c1", "cloud-init.user-data", "-", stdin=b"#cloud-config\nruncmd: []\n")
    assert lxc.ok("config", "get", "c1", "user.text") == "many\nlines\n\n"
    config = lxc.yaml("config", "show", "c1")["config"]
    assert config["cloud-init.user-data"] == "#cloud-config\nruncmd: []\n"
    for key in ("user.a", "user.b", "user.text", "cloud-init.user-data"):
        lxc.ok("config", "unset", "c1", key)
    assert not [key for key in lxc.yaml("config", "show", "c1")["config"] if key.startswith(("user.", "cloud-init."))]


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("nonsense=1", "Invalid config: Unknown configuration key: nonsense"),
        ("volatile.nonsense=1", "Unknown configuration key: volatile.nonsense"),
        ("volatile.uuid=1", "Invalid UUID"),
        ("security.privileged=maybe", "maybe"),
        ("raw.lxc=lxc.a = b", "Unknown configuration key: raw.lxc"),
        ("boot.autostart.priority=x", "boot.autostart.priority"),
    ],
)
def test_what_is_refused_changes_nothing(lxc: Lxc, setting: str, complaint: str) -> None:
    before = lxc.yaml("config", "show", "c1")
    assert complaint in lxc.fails("config", "set", "c1", setting)
    assert lxc.yaml("config", "show", "c1") == before


def test_edit(lxc: Lxc) -> None:
    shown = lxc.yaml("config", "show", "c1")
    assert shown["config"]["volatile.last_state.power"] == "STOPPED"
    shown["description"] = "edited"
    shown["config"]["user.edited"] = "1"
    lxc.ok("config", "edit", "c1", stdin=yaml.safe_dump(shown).encode())
    again = lxc.yaml("config", "show", "c1")
    assert again == shown
    del shown["config"]["user.edited"]
    lxc.ok("config", "edit", "c1", stdin=yaml.safe_dump(shown).encode())
    assert lxc.yaml("config", "show", "c1")["config"] == shown["config"]
    assert "profile" in lxc.fails("config", "edit", "c1", stdin=b"profiles: [nope]\n").lower()


def test_devices(lxc: Lxc) -> None:
    lxc.ok("config", "device", "add", "c1", "eth1", "nic", f"network={BRIDGE}", "name=eth1")
    assert "already exists" in lxc.fails("config", "device", "add", "c1", "eth1", "none")
    lxc.ok("config", "device", "set", "c1", "eth1", "hwaddr=00:16:3e:01:02:03")
    assert lxc.ok("config", "device", "get", "c1", "eth1", "hwaddr") == "00:16:3e:01:02:03\n"
    lxc.ok("config", "device", "unset", "c1", "eth1", "hwaddr")
    assert lxc.ok("config", "device", "list", "c1") == "eth1\n"
    assert lxc.yaml("config", "device", "show", "c1")["eth1"]["name"] == "eth1"
    assert "bad hwaddr" in lxc.fails("config", "device", "set", "c1", "eth1", "hwaddr=nonsense")
    assert "from profile" in lxc.fails("config", "device", "set", "c1", "eth0", "hwaddr=00:16:3e:01:02:03").lower()
    lxc.ok("config", "device", "override", "c1", "eth0", "hwaddr=00:16:3e:01:02:04")
    expanded = lxc.yaml("config", "show", "c1", "--expanded")["devices"]
    assert expanded["eth0"]["hwaddr"] == "00:16:3e:01:02:04"
    assert set(expanded) == {"eth0", "eth1", "root"}
    lxc.ok("config", "device", "remove", "c1", "eth0")
    lxc.ok("config", "device", "remove", "c1", "eth1")
    assert lxc.yaml("config", "show", "c1")["devices"] == {}
    assert "doesn't exist" in lxc.fails("config", "device", "remove", "c1", "eth1")
    assert "warp" in lxc.fails("config", "device", "add", "c1", "x", "warp")


def test_put_replaces_and_patch_merges(daemon: Daemon) -> None:
    url = "/1.0/instances/c1"
    before = daemon.get(url)
    daemon.request("PATCH", url, {"config": {"user.a": "1", "user.b": "2"}, "devices": {"x": {"type": "none"}}})
    daemon.request("PATCH", url, {"config": {"user.a": "", "user.c": "3"}, "description": "patched"})
    found = daemon.get(url)
    own = {key: value for key, value in found["config"].items() if key.startswith("user.")}
    assert own == {"user.b": "2", "user.c": "3"}
    assert (found["description"], found["devices"], found["profiles"]) == (
        "patched",
        {"x": {"type": "none"}},
        ["default"],
    )
    daemon.wait(daemon.put(url, {"config": {"user.d": "4"}, "profiles": ["default"]}))
    found = daemon.get(url)
    own = {key: value for key, value in found["config"].items() if not key.startswith("volatile.")}
    assert (own, found["description"], found["devices"]) == ({"user.d": "4"}, "", {})
    for key in ("volatile.uuid", "volatile.last_state.power"):
        assert found["config"][key] == before["config"][key]
    root = {"type": "disk", "path": "/", "pool": "default"}
    daemon.wait(daemon.put(url, {"config": None, "devices": {"root": root}, "profiles": None}))
    assert daemon.get(url)["profiles"] == []
    daemon.wait(daemon.put(url, {key: before[key] for key in ("config", "devices", "profiles", "description")}))
    assert daemon.get(url)["config"] == before["config"]


@pytest.mark.parametrize(
    ("change", "status", "complaint"),
    [
        ({"profiles": ["nope"]}, 404, 'Profile "nope" not found'),
        ({"profiles": ["default", "default"]}, 400, "Duplicate profile found in request"),
        ({"architecture": "s390x"}, 400, "architecture"),
        ({"config": {"limits.memory": 1}}, 400, "config"),
        ({"devices": {"x": {"type": "nic", "nonsense": "1"}}}, 400, "nonsense"),
    ],
)
def test_what_is_refused_is_refused_at_once(
    daemon: Daemon, change: dict[str, object], status: int, complaint: str
) -> None:
    for method in ("PATCH", "PUT"):
        with pytest.raises(Failed) as refused:
            daemon.request(method, "/1.0/instances/c1", change)
        assert (refused.value.status, complaint in refused.value.message) == (status, True), method


def test_two_editors_do_not_undo_each_other(daemon: Daemon) -> None:
    url = "/1.0/instances/c1"
    version = daemon.http.get(url).headers["etag"]
    headers = {"If-Match": version}
    assert daemon.http.patch(url, json={"description": "first"}, headers=headers).status_code == 200
    for second in (daemon.http.patch(url, json={}, headers=headers), daemon.http.put(url, json={}, headers=headers)):
        assert second.status_code == 412
        assert second.json()["error"].startswith("ETag doesn't match: ")
    assert daemon.get(url)["description"] == "first"


def test_lists_filter(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("init", "example", "c2", "-c", "user.role=web")
    assert [entry["name"] for entry in lxc.json("list", "c2")] == ["c2"]
    assert [entry["name"] for entry in lxc.json("list", "user.role=web")] == ["c2"]
    assert [entry["name"] for entry in lxc.json("list", "status=stopped")] == ["c1", "c2"]
    assert lxc.json("list", "status=running") == []
    assert [entry["name"] for entry in lxc.json("list", "type=container", "--fast")] == ["c1", "c2"]

    def found(query: str) -> list[str]:
        urls = daemon.http.get("/1.0/instances", params={"filter": query}).json()["metadata"]
        return [url.rpartition("/")[2] for url in urls]

    assert found("name eq c.*") == ["c1", "c2"]
    assert found("not name eq c1") == ["c2"]
    assert found("config.user.role eq web or name eq c1") == ["c1", "c2"]
    assert found("expanded_devices.eth0.type eq nic and config.user.role ne web") == ["c1"]
    assert found("nonsense eq x") == []
    lxc.ok("delete", "c2")
