"""`lxc profile *`, and the same by Ansible's and pylxd's calls where they differ."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
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


def test_the_fresh_default_profile(lxc: Lxc) -> None:
    assert lxc.yaml("profile", "show", "default") == {
        "name": "default",
        "description": "Default lxdpy profile",
        "config": {},
        "devices": {
            "eth0": {"type": "nic", "name": "eth0", "network": BRIDGE},
            "root": {"type": "disk", "path": "/", "pool": "default"},
        },
        "used_by": [],
    }
    assert "cannot be deleted" in lxc.fails("profile", "delete", "default")
    assert "cannot be renamed" in lxc.fails("profile", "rename", "default", "other")


def test_make_change_copy_rename_delete(lxc: Lxc) -> None:
    lxc.ok("profile", "create", "a")
    assert "already exists" in lxc.fails("profile", "create", "a")
    lxc.ok("profile", "set", "a", "user.x=1", "limits.memory=64MiB")
    assert lxc.ok("profile", "get", "a", "user.x") == "1\n"
    lxc.ok("profile", "unset", "a", "user.x")
    assert lxc.ok("profile", "get", "a", "user.x") == "\n"
    lxc.ok("profile", "device", "add", "a", "eth1", "nic", f"network={BRIDGE}", "name=eth1")
    assert lxc.ok("profile", "device", "list", "a") == "eth1\n"
    lxc.ok("profile", "device", "set", "a", "eth1", "name", "eth5")
    assert lxc.ok("profile", "device", "get", "a", "eth1", "name") == "eth5\n"
    lxc.ok("profile", "device", "unset", "a", "eth1", "name")
    assert lxc.yaml("profile", "device", "show", "a") == {"eth1": {"type": "nic", "network": BRIDGE}}
    lxc.ok("profile", "copy", "a", "b")
    lxc.ok("profile", "device", "remove", "a", "eth1")
    assert lxc.yaml("profile", "show", "a")["devices"] == {}
    assert lxc.yaml("profile", "show", "b")["config"] == {"limits.memory": "64MiB"}
    lxc.ok("profile", "edit", "b", stdin=b'description: edited\nconfig: {user.y: "2"}\n')
    lxc.ok("profile", "rename", "b", "c")
    shown = lxc.yaml("profile", "show", "c")
    assert (shown["description"], shown["config"], shown["devices"]) == ("edited", {"user.y": "2"}, {})
    assert {profile["name"] for profile in lxc.json("profile", "list")} == {"a", "c", "default"}
    assert 'Profile "b" not found' in lxc.fails("profile", "show", "b")
    lxc.ok("profile", "delete", "a")
    lxc.ok("profile", "delete", "c")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("set", "default", "nonsense=1"), "Unknown configuration key: nonsense"),
        (("set", "default", "volatile.uuid=1"), "volatile.uuid"),
        (("set", "default", "security.privileged=maybe"), "maybe"),
        (("device", "add", "default", "x", "warp"), "warp"),
        (("create", "a/b"), "slashes"),
    ],
)
def test_what_a_profile_cannot_have(lxc: Lxc, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in lxc.fails("profile", *arguments)


def test_instances_follow_their_profiles(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("profile", "create", "web")
    lxc.ok("profile", "set", "web", "environment.COLOUR=red")
    lxc.ok("launch", "example", "w1", "--profile", "default", "--profile", "web")
    assert lxc.yaml("profile", "show", "web")["used_by"] == ["/1.0/instances/w1"]
    assert lxc.ok("exec", "w1", "--", "sh", "-c", "echo $COLOUR") == "red\n"
    assert "currently in use" in lxc.fails("profile", "delete", "web")

    lxc.ok("profile", "set", "web", "environment.COLOUR=blue")
    assert lxc.yaml("config", "show", "w1", "--expanded")["config"]["environment.COLOUR"] == "blue"
    lxc.ok("restart", "w1", "--force")
    assert lxc.ok("exec", "w1", "--", "sh", "-c", "echo $COLOUR") == "blue\n"

    lxc.ok("profile", "rename", "web", "site")
    assert lxc.yaml("config", "show", "w1")["profiles"] == ["default", "site"]
    lxc.ok("profile", "remove", "w1", "site")
    assert lxc.yaml("config", "show", "w1")["profiles"] == ["default"]
    lxc.ok("profile", "add", "w1", "site")
    assert "Duplicate profile" in lxc.fails("profile", "add", "w1", "site")
    assert "not found" in lxc.fails("profile", "add", "w1", "nope")
    assert "No root device" in lxc.fails("profile", "assign", "w1", "site")
    lxc.ok("profile", "assign", "w1", "site,default")
    assert lxc.yaml("config", "show", "w1")["profiles"] == ["site", "default"]
    assert "not found" in lxc.fails("profile", "assign", "w1", "default,nope")
    assert "relies on this profile's root disk" in lxc.fails("profile", "device", "remove", "default", "root")
    lxc.ok("profile", "assign", "w1", "default")
    lxc.ok("profile", "delete", "site")
    lxc.ok("delete", "w1", "--force")


def test_of_two_profiles_the_later_wins_and_the_instance_over_both(lxc: Lxc) -> None:
    for name in ("one", "two"):
        lxc.ok("profile", "create", name)
        lxc.ok("profile", "set", name, f"user.by={name}", f"user.{name}=1")
    lxc.ok("init", "example", "w2", "-p", "default", "-p", "one", "-p", "two")
    config = lxc.yaml("config", "show", "w2", "--expanded")["config"]
    assert (config["user.by"], config["user.one"], config["user.two"]) == ("two", "1", "1")
    lxc.ok("profile", "assign", "w2", "default,two,one")
    assert lxc.yaml("config", "show", "w2", "--expanded")["config"]["user.by"] == "one"
    lxc.ok("config", "set", "w2", "user.by=own")
    shown = lxc.yaml("config", "show", "w2", "--expanded")
    assert shown["config"]["user.by"] == "own"
    lxc.ok("config", "device", "override", "w2", "eth0", "name=lan0")
    assert lxc.yaml("config", "show", "w2")["devices"]["eth0"] == {"type": "nic", "name": "lan0", "network": BRIDGE}
    lxc.ok("config", "device", "remove", "w2", "eth0")
    lxc.ok("config", "device", "add", "w2", "eth0", "none")
    assert lxc.yaml("config", "show", "w2", "--expanded")["devices"]["eth0"] == {"type": "none"}
    lxc.ok("delete", "w2")
    lxc.ok("profile", "delete", "one")
    lxc.ok("profile", "delete", "two")


def test_ansibles_calls(daemon: Daemon) -> None:
    """What `lxd_profile` sends: no project, no If-Match, and a 404 as its only sign of absence."""
    answer = daemon.http.post("/1.0/profiles", json={"name": "größer 日本"})
    assert (answer.status_code, answer.headers["location"][:19]) == (201, "/1.0/profiles/gr%C3")
    daemon.request("DELETE", answer.headers["location"])
    with pytest.raises(Failed) as missing:
        daemon.get("/1.0/profiles/macvlan")
    assert missing.value.status == 404
    wanted = {"config": {}, "description": "my profile", "devices": {"x": {"type": "none"}}, "name": "macvlan"}
    daemon.request("POST", "/1.0/profiles", wanted)
    found = daemon.get("/1.0/profiles/macvlan")
    assert found == {**wanted, "used_by": []}
    daemon.put("/1.0/profiles/macvlan", {**found, "description": "changed"})
    daemon.request("POST", "/1.0/profiles/macvlan", {"name": "other"})
    assert daemon.get("/1.0/profiles/other")["description"] == "changed"
    daemon.request("DELETE", "/1.0/profiles/other")
    assert daemon.get("/1.0/profiles") == ["/1.0/profiles/default"]


def test_two_editors_do_not_undo_each_other(daemon: Daemon) -> None:
    daemon.request("POST", "/1.0/profiles", {"name": "shared"})
    version = daemon.http.get("/1.0/profiles/shared").headers["etag"]
    first = daemon.http.put("/1.0/profiles/shared", json={"description": "first"}, headers={"If-Match": version})
    assert first.status_code == 200
    second = daemon.http.patch("/1.0/profiles/shared", json={"description": "second"}, headers={"If-Match": version})
    assert second.status_code == 412
    assert second.json()["error"].startswith("ETag doesn't match: ")
    assert daemon.get("/1.0/profiles/shared")["description"] == "first"
    daemon.request("DELETE", "/1.0/profiles/shared")


PYLXD = """
import sys
import pylxd
client = pylxd.Client(endpoint=sys.argv[1])
made = client.profiles.create("py", config={"user.x": "1"}, devices={"x": {"type": "none"}})
assert client.profiles.exists("py")
made.config["user.y"] = "2"
made.description = "changed"
made.save()
found = client.profiles.get("py")
assert (found.config, found.description) == ({"user.x": "1", "user.y": "2"}, "changed")
assert found.devices == {"x": {"type": "none"}}
renamed = found.rename("px")
assert (renamed.name, renamed.used_by) == ("px", [])
renamed.delete()
assert not client.profiles.exists("px")
try:
    client.profiles.get("px")
except pylxd.exceptions.NotFound:
    pass
else:
    raise AssertionError("it was found")
"""


def test_pylxd(daemon: Daemon) -> None:
    # In a process of its own: it warns, and leaves sockets open.
    done = subprocess.run(
        (sys.executable, "-c", PYLXD, str(daemon.socket)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
