"""System containers with LXD's own client: boot, reboot, halt, templates and metadata; busybox's init and systemd."""

from collections.abc import Iterator

import pytest
import yaml

from tests.system import system_images
from tests.system.daemon import BRIDGE, GATEWAY, Daemon, place
from tests.system.lxc import Lxc
from tests.system.systems import address, boots, import_busybox, status, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.lxd_client,
]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    client = Lxc(daemon.state_dir, daemon.state_dir.parent / "home")
    import_busybox(client, tmp_path_factory.mktemp("busybox"))
    return client


@pytest.fixture(autouse=True)
def nothing_stays(lxc: Lxc) -> Iterator[None]:
    yield
    if names := [str(one["name"]) for one in lxc.json("list")]:
        lxc.ok("delete", "--force", *names)


def text(lxc: Lxc, name: str, path: str) -> str:
    return lxc.ok("exec", name, "--", "/bin/cat", path)


def test_life_of_a_system(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("launch", "busybox", "s1", "--config", "user.note=first", "--config", "environment.OF_INIT=yes")
    until(lambda: boots(lxc, "s1") == ["start"], "it boots")
    shown = lxc.yaml("config", "show", "s1", "--expanded")
    assert shown["architecture"] == "x86_64"
    assert shown["config"]["image.os"] == "busybox"
    assert not any(key.startswith("oci.") or key == "volatile.container.oci" for key in shown["config"])
    assert "volatile.apply_template" not in shown["config"]
    assert lxc.json("list")[0]["type"] == "container"
    # Templates of its making, and of every start.
    assert text(lxc, "s1", "/etc/hostname") == "s1\n"
    assert lxc.ok("exec", "s1", "--", "/bin/hostname") == "s1\n"
    assert text(lxc, "s1", "/var/lib/templates/started") == "busybox start /var/lib/templates/started first\n"
    assert text(lxc, "s1", "/var/lib/templates/once") == "first\n"
    # As LXD runs commands.
    environment = lxc.ok("exec", "s1", "--", "/bin/sh", "-c", "echo $HOME $USER $LANG $PWD $OF_INIT")
    assert environment == "/root root C.UTF-8 /root yes\n"

    # Told by DHCP, inside; and listed as leased.
    until(lambda: address(lxc, "s1") != "", "it gets an address")
    assert address(lxc, "s1").startswith(GATEWAY.removesuffix("0.1"))
    leases = {lease["hostname"]: lease["address"] for lease in daemon.get(f"/1.0/networks/{BRIDGE}/leases")}
    assert leases["s1"] == address(lxc, "s1")
    assert GATEWAY in lxc.ok("exec", "s1", "--", "/bin/ip", "route")

    lxc.ok("config", "set", "s1", "user.note=second")
    lxc.ok("restart", "s1")
    until(lambda: boots(lxc, "s1") == ["start", "stop", "start"], "it restarts, cleanly")
    assert text(lxc, "s1", "/var/lib/templates/started").endswith(" second\n")
    assert text(lxc, "s1", "/var/lib/templates/once") == "first\n"

    lxc.run("exec", "s1", "--", "/sbin/reboot")
    until(lambda: boots(lxc, "s1") == ["start", "stop"] * 2 + ["start"], "it reboots from inside")
    assert status(lxc, "s1") == "Running"

    lxc.ok("stop", "s1")
    assert status(lxc, "s1") == "Stopped"
    state = daemon.get("/1.0/instances/s1/wait")
    assert (state["exit_code"], state["exit_signal"]) == (0, None)
    lxc.ok("start", "s1")
    until(lambda: boots(lxc, "s1")[-1:] == ["start"], "it starts again")
    assert boots(lxc, "s1") == ["start", "stop"] * 3 + ["start"]
    lxc.run("exec", "s1", "--", "/sbin/poweroff")
    until(lambda: status(lxc, "s1") == "Stopped", "it halts from inside")
    lxc.ok("delete", "s1")


def test_metadata_and_templates_of_an_instance(lxc: Lxc) -> None:
    lxc.ok("init", "busybox", "s2")
    shown = lxc.yaml("config", "metadata", "show", "s2")
    assert (shown["architecture"], shown["creation_date"]) == ("x86_64", 1700000000)
    assert shown["properties"] == {"description": "busybox", "os": "busybox"}
    assert shown["templates"]["/etc/hostname"] == {
        "when": ["create", "copy", "rename"],
        "create_only": False,
        "template": "hostname.tpl",
        "properties": {},
    }
    listed = lxc.ok("config", "template", "list", "s2")
    assert all(name in listed for name in ("hostname.tpl", "hosts.tpl", "once.tpl", "started.tpl"))
    assert lxc.ok("config", "template", "show", "s2", "hostname.tpl") == "{{ container.name }}\n"

    shown["templates"] = {"/etc/motd": {"when": ["create"], "template": "motd.tpl", "properties": {"word": "hello"}}}
    lxc.ok("config", "metadata", "edit", "s2", stdin=yaml.safe_dump(shown).encode())
    lxc.ok("config", "template", "create", "s2", "motd.tpl")
    lxc.ok("config", "template", "edit", "s2", "motd.tpl", stdin=b"{{ properties.word }} {{ config_get('user.x') }}!\n")
    assert lxc.yaml("config", "metadata", "show", "s2")["templates"]["/etc/motd"]["create_only"] is False
    lxc.ok("config", "set", "s2", "user.x=world")
    lxc.ok("start", "s2")
    assert text(lxc, "s2", "/etc/motd") == "hello world!\n"
    assert text(lxc, "s2", "/etc/hostname") == "of-the-image\n"

    lxc.ok("config", "template", "delete", "s2", "motd.tpl")
    assert "motd.tpl" not in lxc.ok("config", "template", "list", "s2")
    assert "not found" in lxc.fails("config", "template", "show", "s2", "motd.tpl")
    assert "not found" in lxc.fails("config", "template", "delete", "s2", "motd.tpl")
    assert "Invalid template name" in lxc.fails("config", "template", "show", "s2", "../metadata.yaml")
    # The image is as it was.
    lxc.ok("init", "busybox", "s3")
    assert "/etc/hostname" in lxc.yaml("config", "metadata", "show", "s3")["templates"]


def test_copies_and_names(lxc: Lxc) -> None:
    lxc.ok("init", "busybox", "s2", "--config", "user.note=of s2")
    instance_id = lxc.ok("config", "get", "s2", "volatile.cloud-init.instance-id")
    assert len(instance_id) == 37
    lxc.ok("start", "s2")
    until(lambda: boots(lxc, "s2") == ["start"], "it boots")
    lxc.ok("exec", "s2", "--", "/bin/sh", "-c", "echo changed >/etc/hosts; echo mine >/etc/mine")
    lxc.ok("stop", "s2")
    lxc.ok("copy", "s2", "s3", "--config", "user.note=of s3")
    assert lxc.ok("config", "get", "s3", "volatile.apply_template") == "copy\n"
    assert lxc.ok("config", "get", "s3", "volatile.cloud-init.instance-id") not in ("\n", instance_id)
    lxc.ok("start", "s3")
    assert text(lxc, "s3", "/etc/hostname") == "s3\n"
    assert text(lxc, "s3", "/etc/hosts").splitlines()[-1] == "127.0.1.1\ts3"
    assert text(lxc, "s3", "/etc/mine") == "mine\n"
    # Written when s2 was made, and not again.
    assert text(lxc, "s3", "/var/lib/templates/once") == "of s2\n"
    assert lxc.yaml("config", "metadata", "show", "s3") == lxc.yaml("config", "metadata", "show", "s2")

    lxc.ok("move", "s2", "s4")
    assert lxc.ok("config", "get", "s4", "volatile.cloud-init.instance-id") not in ("\n", instance_id)
    lxc.ok("start", "s4")
    assert text(lxc, "s4", "/etc/hostname") == "s4\n"
    assert text(lxc, "s4", "/etc/mine") == "mine\n"
    assert lxc.ok("config", "get", "s4", "volatile.apply_template") == "\n"


def test_published_system(lxc: Lxc) -> None:
    lxc.ok("launch", "busybox", "s2")
    until(lambda: boots(lxc, "s2") == ["start"], "it boots")
    lxc.ok("exec", "s2", "--", "/bin/sh", "-c", "echo mine >/etc/mine")
    lxc.ok("stop", "s2")
    lxc.ok("publish", "s2", "--alias", "mine")
    lxc.ok("launch", "mine", "s3")
    until(lambda: boots(lxc, "s3") == ["start", "stop", "start"], "it boots")
    assert text(lxc, "s3", "/etc/hostname") == "s3\n"
    assert text(lxc, "s3", "/etc/mine") == "mine\n"
    lxc.ok("delete", "-f", "s3")
    lxc.ok("image", "delete", "mine")


def test_system_in_a_project(lxc: Lxc) -> None:
    lxc.ok("project", "create", "p1", "--config", "features.images=false", "--config", "features.profiles=false")
    lxc.ok("launch", "busybox", "s2", "--project", "p1")
    until(lambda: lxc.run("exec", "s2", "--project", "p1", "--", "/bin/cat", "/var/boots").stdout != b"", "it boots")
    assert lxc.ok("exec", "s2", "--project", "p1", "--", "/bin/hostname") == "s2\n"
    assert lxc.ok("exec", "s2", "--project", "p1", "--", "/bin/cat", "/etc/hostname") == "s2\n"
    assert "hosts.tpl" in lxc.ok("config", "template", "list", "s2", "--project", "p1")
    lxc.run("exec", "s2", "--project", "p1", "--", "/sbin/reboot")
    two = b"start\nstop\nstart\n"
    until(lambda: lxc.run("exec", "s2", "--project", "p1", "--", "/bin/cat", "/var/boots").stdout == two, "it reboots")
    lxc.ok("delete", "--force", "s2", "--project", "p1")
    lxc.ok("project", "delete", "p1")


def test_metadata_by_requests(lxc: Lxc, daemon: Daemon) -> None:
    lxc.ok("init", "busybox", "s2")
    path = "/1.0/instances/s2/metadata"
    answer = daemon.http.get(path)
    whole = answer.json()["metadata"]
    changed = {"properties": {"os": "other"}, "templates": {"/etc/x": {"when": ["start"], "template": "x.tpl"}}}
    assert daemon.http.patch(path, json=changed, headers={"If-Match": answer.headers["etag"]}).status_code == 200
    assert daemon.http.patch(path, json=changed, headers={"If-Match": answer.headers["etag"]}).status_code == 412
    assert daemon.http.put(path, json=whole, headers={"If-Match": answer.headers["etag"]}).status_code == 412
    found = daemon.get(path)
    assert found["properties"] == {"description": "busybox", "os": "other"}
    assert {"/etc/hostname", "/etc/x"} < set(found["templates"])
    assert found["creation_date"] == 1700000000
    assert daemon.http.put(path, json={**whole, "architecture": "z80"}).status_code == 400
    bad = {"/etc/x": {"when": ["start"], "template": "../../state"}}
    assert daemon.http.patch(path, json={"templates": bad}).status_code == 400
    # A template that is missing is said at the start, which it stops.
    assert 'Cannot render template "x.tpl" for /etc/x' in lxc.fails("start", "s2")
    assert status(lxc, "s2") == "Stopped"
    assert daemon.http.post(f"{path}/templates?path=x.tpl", content=b"{% if %}").status_code == 200
    assert "line 1: Expected an expression" in lxc.fails("start", "s2")
    assert daemon.http.post(f"{path}/templates", content=b"x").status_code == 400


def test_what_is_for_applications_is_refused(lxc: Lxc) -> None:
    lxc.ok("init", "busybox", "s2")
    assert "oci.entrypoint is for applications" in lxc.fails("config", "set", "s2", "oci.entrypoint=/bin/sh")
    assert "oci.cwd is for applications" in lxc.fails("init", "busybox", "s3", "--config", "oci.cwd=/tmp")


def test_privileged_system(lxc: Lxc) -> None:
    lxc.ok("launch", "busybox", "s2", "--config", "security.privileged=true")
    until(lambda: boots(lxc, "s2") == ["start"], "it boots")
    lxc.ok("stop", "s2")


def test_stop_right_after_the_start(lxc: Lxc) -> None:
    """When init does not listen yet."""
    lxc.ok("init", "busybox", "s2")
    for _ in range(2):
        lxc.ok("start", "s2")
        lxc.ok("stop", "s2")


def test_ephemeral_system(lxc: Lxc) -> None:
    lxc.ok("launch", "busybox", "s2", "--ephemeral")
    until(lambda: boots(lxc, "s2") == ["start"], "it boots")
    lxc.run("exec", "s2", "--", "/sbin/reboot")
    until(lambda: boots(lxc, "s2") == ["start", "stop", "start"], "a reboot is not its end")
    lxc.run("exec", "s2", "--", "/sbin/poweroff")
    until(lambda: lxc.json("list") == [], "a halt is")
    lxc.ok("launch", "busybox", "s2", "--ephemeral")
    lxc.ok("stop", "--force", "s2")
    assert lxc.json("list") == []


@pytest.fixture(scope="module")
def debian(lxc: Lxc, tmp_path_factory: pytest.TempPathFactory) -> str:
    meta = system_images.metadata_tarball(tmp_path_factory.mktemp("debian") / "meta.tar.gz", "debian")
    lxc.ok("image", "import", str(meta), str(system_images.debian()), "--alias", "debian")
    return "debian"


# The image is made here, unless it was before.
@pytest.mark.debian
@pytest.mark.timeout(600)
@pytest.mark.parametrize("privileged", ["false", "true"])
def test_systemd(lxc: Lxc, debian: str, privileged: str) -> None:
    lxc.ok("launch", debian, "d1", "--config", f"security.privileged={privileged}")
    until(lambda: lxc.run("exec", "d1", "--", "test", "-S", "/run/systemd/private").code == 0, "systemd listens")
    result = lxc.run("exec", "d1", "--", "systemctl", "is-system-running", "--wait")
    assert result.stdout == b"running\n", lxc.ok("exec", "d1", "--", "systemctl", "--failed")
    assert lxc.ok("exec", "d1", "--", "systemd-detect-virt") == "lxc\n"
    assert lxc.ok("exec", "d1", "--", "hostname") == "d1\n"
    until(lambda: address(lxc, "d1") != "", "it gets an address")
    assert GATEWAY in lxc.ok("exec", "d1", "--", "ip", "route")
    boot_id = lxc.ok("exec", "d1", "--", "cat", "/proc/sys/kernel/random/boot_id")

    lxc.run("exec", "d1", "--", "systemctl", "reboot")
    until(
        lambda: (
            lxc.run("exec", "d1", "--", "cat", "/proc/sys/kernel/random/boot_id").stdout.decode() not in ("", boot_id)
        ),
        "it reboots",
    )
    lxc.ok("stop", "d1")
    # Not by force: it has ended everything else first.
    assert "Reached target umount.target" in lxc.ok("console", "d1", "--show-log")
