"""`lxc project *`, and instances in projects by `lxc --project`."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
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


def pull(daemon: Daemon, registry: ExampleRegistry) -> None:
    daemon.pull("example:1", f"http://{registry.host}")
    image = daemon.get("/1.0/images?recursion=1")[0]
    daemon.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        pull(running, example_registry)
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


def test_make_change_rename_delete(lxc: Lxc) -> None:
    lxc.ok("project", "create", "p1", "-c", "user.a=1")
    assert lxc.yaml("project", "show", "p1") == {
        "name": "p1",
        "description": "",
        "config": {
            "features.images": "true",
            "features.profiles": "true",
            "features.storage.volumes": "true",
            "user.a": "1",
        },
        "used_by": ["/1.0/profiles/default?project=p1"],
    }
    assert "already exists" in lxc.fails("project", "create", "p1")
    lxc.ok("project", "set", "p1", "user.b=2")
    assert lxc.ok("project", "get", "p1", "user.b") == "2\n"
    lxc.ok("project", "unset", "p1", "user.b")
    lxc.ok("project", "edit", "p1", stdin=b'description: edited\nconfig: {features.images: "false"}\n')
    shown = lxc.yaml("project", "show", "p1")
    assert (shown["description"], shown["config"], shown["used_by"]) == ("edited", {"features.images": "false"}, [])
    lxc.ok("project", "rename", "p1", "p2")
    assert {project["name"] for project in lxc.json("project", "list")} == {"default", "p2"}
    lxc.ok("project", "switch", "p2")
    assert lxc.json("list") == []
    assert lxc.yaml("info")["environment"]["project"] == "p2"
    lxc.ok("project", "switch", "default")
    lxc.ok("project", "delete", "p2")
    assert "not found" in lxc.fails("project", "show", "p2")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("create", "a_b"), "Project names may not contain underscores"),
        (("create", "a b"), "Invalid project name"),
        (("create", "x", "-c", "nonsense=1"), 'Invalid project configuration key "nonsense"'),
        (("create", "x", "-c", "features.images=maybe"), 'Invalid value for a boolean "maybe"'),
        (("create", "x", "-c", "features.networks=true"), "not supported"),
        (("delete", "default"), "cannot be deleted"),
        (("rename", "default", "x"), "cannot be renamed"),
        (("set", "default", "features.images=false"), "can't change the features of the default project"),
        (("delete", "nope"), "not found"),
    ],
)
def test_what_is_refused(lxc: Lxc, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in lxc.fails("project", *arguments)


def test_instances_of_one_name_in_two_projects(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("project", "create", "p1", "-c", "features.profiles=false", "-c", "features.images=false")
    lxc.ok("launch", "example", "web")
    lxc.ok("launch", "example", "web", "--project", "p1", "-c", "environment.WHERE=p1")
    in_p1 = ("--project", "p1")
    assert lxc.ok("exec", "web", *in_p1, "--", "hostname") == "web\n"
    assert lxc.ok("exec", "web", *in_p1, "--", "sh", "-c", "echo $WHERE") == "p1\n"
    assert lxc.ok("exec", "web", "--", "sh", "-c", "echo $WHERE") == "\n"
    assert "\tweb\n" in lxc.ok("exec", "web", *in_p1, "--", "cat", "/etc/hosts")
    (one,) = lxc.json("list", *in_p1)
    assert (one["name"], one["project"], one["status"]) == ("web", "p1", "Running")
    assert {(entry["project"], entry["name"]) for entry in lxc.json("list", "--all-projects")} == {
        ("default", "web"),
        ("p1", "web"),
    }
    assert daemon.get("/1.0/instances?all-projects=true") == ["/1.0/instances/web", "/1.0/instances/web?project=p1"]
    assert lxc.yaml("profile", "show", "default")["used_by"] == ["/1.0/instances/web", "/1.0/instances/web?project=p1"]
    assert lxc.yaml("project", "show", "p1")["used_by"] == ["/1.0/instances/web?project=p1"]
    with pytest.raises(Failed) as missing:
        daemon.get("/1.0/instances/p1_web")
    assert missing.value.status == 404

    lxc.ok("config", "set", "web", "user.here=p1", *in_p1)
    assert "user.here" not in lxc.yaml("config", "show", "web")["config"]
    assert lxc.ok("file", "push", "-", "web/tmp/here", *in_p1, stdin=b"p1") == ""
    assert lxc.ok("file", "pull", "web/tmp/here", "-", *in_p1) == "p1"
    assert lxc.run("file", "pull", "web/tmp/here", "-").code == 1
    lxc.ok("stop", "web", "--force", *in_p1)
    assert lxc.json("list")[0]["status"] == "Running"

    for refused in (("project", "delete", "p1"), ("project", "rename", "p1", "p2")):
        assert "Only empty projects" in lxc.fails(*refused)
    assert "non-empty" in lxc.fails("project", "set", "p1", "features.profiles=true")
    lxc.ok("delete", "web", *in_p1)
    lxc.ok("delete", "web", "--force")
    lxc.ok("project", "delete", "p1")


def test_unknown_projects(lxc: Lxc, daemon: Daemon) -> None:
    assert daemon.get("/1.0/instances?project=nope") == []
    assert daemon.get("/1.0/operations?project=nope") == {}
    assert "not found" in lxc.fails("launch", "example", "web", "--project", "nope")
    assert "not found" in lxc.fails("profile", "list", "--project", "nope")
    assert "not found" in lxc.fails("info", "web", "--project", "nope")


def test_events_and_operations_tell_their_project(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("project", "create", "p1", "-c", "features.profiles=false", "-c", "features.images=false")
    lxc.ok("init", "example", "web", "--project", "p1")
    answer = daemon.put("/1.0/instances/web/state?project=p1", {"action": "start"})
    assert answer["operation"].endswith("?project=p1")
    identity = answer["metadata"]["id"]
    assert answer["metadata"]["resources"] == {"instances": ["/1.0/instances/web"]}
    ended = daemon.get(f"/1.0/operations/{identity}/wait?project=p1")
    assert ended["status"] == "Success"
    listed = daemon.get("/1.0/operations?project=p1")
    assert f"/1.0/operations/{identity}" in [url for urls in listed.values() for url in urls]
    assert f"/1.0/operations/{identity}" not in [url for urls in daemon.get("/1.0/operations").values() for url in urls]
    lxc.ok("delete", "web", "--force", "--project", "p1")
    lxc.ok("project", "delete", "p1")


def test_limits(lxc: Lxc) -> None:
    lxc.ok(
        "project",
        "create",
        "small",
        *("-c", "limits.instances=1", "-c", "features.profiles=false", "-c", "features.images=false"),
    )
    lxc.ok("init", "example", "a", "--project", "small")
    assert '"limits.instances" is 1' in lxc.fails("init", "example", "b", "--project", "small")
    rows = [line.split(",") for line in lxc.ok("project", "info", "small", "--format", "csv").splitlines()]
    assert ["INSTANCES", "1", "1"] in rows
    lxc.ok("delete", "a", "--project", "small")
    lxc.ok("project", "delete", "small")


def test_move_between_projects(lxc: Lxc) -> None:
    lxc.ok("project", "create", "p1", "-c", "features.profiles=false", "-c", "features.images=false")
    lxc.ok("launch", "example", "web")
    lxc.ok("exec", "web", "--", "sh", "-c", "echo kept > /kept")
    lxc.ok("snapshot", "web", "snap")
    assert "running" in lxc.fails("move", "web", "--target-project", "p1").lower()
    lxc.ok("stop", "web", "--force")
    assert "not found" in lxc.fails("move", "web", "--target-project", "nope").lower()
    lxc.ok("move", "web", "--target-project", "p1")
    assert lxc.json("list") == []
    lxc.ok("start", "web", "--project", "p1")
    assert lxc.ok("exec", "web", "--project", "p1", "--", "cat", "/kept") == "kept\n"
    assert [snapshot["name"] for snapshot in lxc.json("list", "--project", "p1")[0]["snapshots"]] == ["snap"]
    lxc.ok("stop", "web", "--force", "--project", "p1")
    lxc.ok("move", "web", "site", "--project", "p1", "--target-project", "default")
    assert [entry["name"] for entry in lxc.json("list")] == ["site"]
    lxc.ok("delete", "site")
    lxc.ok("project", "delete", "p1")


def test_images_of_a_projects_own(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("project", "create", "own", "-c", "features.profiles=false")
    (image,) = daemon.get("/1.0/images?recursion=1")
    fingerprint = image["fingerprint"]
    assert lxc.json("image", "list", "--project", "own") == []
    assert "not found" in lxc.fails("image", "info", "example", "--project", "own").lower()
    assert "not found" in lxc.fails("launch", "example", "w", "--project", "own").lower()
    daemon.wait(
        daemon.request(
            "POST",
            "/1.0/images?project=own",
            {
                "source": {
                    "type": "image",
                    "protocol": "oci",
                    "server": image["update_source"]["server"],
                    "alias": "example:1",
                },
                "aliases": [{"name": "mine"}],
            },
        )
    )
    (entry,) = lxc.json("image", "list", "--project", "own")
    assert (entry["fingerprint"], {alias["name"] for alias in entry["aliases"]} >= {"mine"}) == (fingerprint, True)
    assert daemon.get("/1.0/images?project=own") == [f"/1.0/images/{fingerprint}?project=own"]
    assert "mine" not in lxc.ok("image", "alias", "list")
    lxc.ok("launch", "mine", "w", "--project", "own")
    lxc.ok("image", "delete", "mine", "--project", "own")
    assert lxc.ok("exec", "w", "--project", "own", "--", "hostname") == "w\n"
    assert daemon.get("/1.0/images") == [f"/1.0/images/{fingerprint}"]
    lxc.ok("delete", "w", "--force", "--project", "own")

    # By a remote that is this daemon's project default: there the image is already.
    lxc.ok("remote", "add", "registry", f"unix://{daemon.socket}")
    lxc.ok("launch", f"registry:{image['properties']['id']}", "w", "--project", "own")
    (entry,) = lxc.json("image", "list", "--project", "own")
    assert entry["fingerprint"] == fingerprint
    lxc.ok("delete", "w", "--force", "--project", "own")
    lxc.ok("image", "delete", fingerprint, "--project", "own")
    lxc.ok("remote", "remove", "registry")
    lxc.ok("project", "delete", "own")


def test_profiles_of_a_projects_own(lxc: Lxc) -> None:
    lxc.ok("project", "create", "own", "-c", "features.images=false")
    assert lxc.yaml("profile", "show", "default", "--project", "own")["devices"] == {}
    lxc.ok("profile", "create", "mine", "--project", "own")
    assert "not found" in lxc.fails("profile", "show", "mine")
    assert [profile["name"] for profile in lxc.json("profile", "list", "--project", "own")] == ["default", "mine"]
    lxc.ok("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default", "--project", "own")
    lxc.ok("launch", "example", "w", "--project", "own")
    assert set(lxc.yaml("config", "show", "w", "--expanded", "--project", "own")["devices"]) == {"root"}
    assert "Only empty projects" in lxc.fails("project", "delete", "own")
    lxc.ok("delete", "w", "--force", "--project", "own")
    lxc.ok("profile", "delete", "mine", "--project", "own")
    lxc.ok("project", "delete", "own")


def test_projects_survive_the_daemon(example_registry: ExampleRegistry) -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        pull(daemon, example_registry)
        lxc = Lxc(daemon.state_dir, directory / "home")
        lxc.ok("project", "create", "p1", "-c", "features.profiles=false", "-c", "features.images=false")
        lxc.ok("launch", "example", "web", "--project", "p1")
        pid = daemon.get("/1.0/instances/web/state?project=p1")["pid"]
        daemon.kill()
        daemon.start()
        assert daemon.get("/1.0/instances/web/state?project=p1")["pid"] == pid
        assert lxc.ok("exec", "web", "--project", "p1", "--", "hostname") == "web\n"
        lxc.ok("delete", "web", "--force", "--project", "p1")
        lxc.ok("project", "delete", "p1")


PYLXD = """
import sys
import pylxd
client = pylxd.Client(endpoint=sys.argv[1])
config = {"features.images": "false", "features.profiles": "false"}
made = client.projects.create("py", description="made", config=config)
assert (made.name, made.description, made.config["features.images"], made.used_by) == ("py", "made", "false", [])
made.description = "changed"
made.config["user.k"] = "v"
made.save(wait=True)
assert client.projects.get("py").config["user.k"] == "v"
renamed = made.rename("px")
assert (renamed.name, renamed.description) == ("px", "changed")
assert sorted(project.name for project in client.projects.all()) == ["default", "px"]

inside = pylxd.Client(endpoint=sys.argv[1], project="px")
source = {"type": "image", "alias": "example"}
web = inside.instances.create({"name": "web", "source": source, "config": {"user.a": "1"}}, wait=True)
assert [instance.name for instance in inside.instances.all(recursion=1)] == ["web"]
assert client.instances.all() == []
web.start(wait=True)
assert web.execute(["hostname"]).stdout == "web\\n"
web.config["user.b"] = "2"
web.save(wait=True)
assert inside.instances.get("web").config["user.b"] == "2"
assert inside.instances.get("web").status == "Running"
web.stop(force=True, wait=True)
web.delete(wait=True)
renamed.delete(wait=True)
assert not client.projects.exists("px")
"""


def test_pylxd(daemon: Daemon) -> None:
    # In a process of its own: it warns, and leaves sockets open.
    done = subprocess.run(
        (sys.executable, "-c", PYLXD, str(daemon.socket)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
