"""Ansible's LXD modules and its connection plugin, from the collection community.general, against the daemon."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import CLIENTS, Daemon, place

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
    pytest.mark.clients,
]


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


# All of them: the module compares with what LXD, too, makes of the few that one names.
FEATURES = {"features.images": "false", "features.profiles": "true", "features.storage.volumes": "true"}


class Ansible:
    """Runs one task."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self._url = f"unix:{daemon.socket}"
        self._home = home
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LXD", "PYTHON"))}
        self._environment = {
            **environment,
            "HOME": str(home),
            "LXD_DIR": str(daemon.state_dir),
            "LXD_CONF": str(home / "lxc"),
            "ANSIBLE_COLLECTIONS_PATH": str(CLIENTS / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }

    def run(self, module: str, arguments: Mapping[str, object], host: str = "localhost") -> dict[str, Any]:
        """Run a module on this host, or in the container `host`; its result. It must not fail."""
        done = subprocess.run(
            [
                str(CLIENTS / "venv/bin/ansible"),
                host,
                *("-i", f"{host},", "-m", module, "-a", json.dumps(arguments)),
                *("-c", "local" if host == "localhost" else "community.general.lxd"),
            ],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (play,) = json.loads(done.stdout)["plays"]
        (task,) = play["tasks"]
        result: dict[str, Any] = task["hosts"][host]
        return result

    def changed(self, module: str, **arguments: object) -> bool:
        """Run an LXD module; whether it says that it changed something."""
        return bool(self.run(f"community.general.{module}", {"url": self._url, **arguments})["changed"])


@pytest.fixture(scope="module")
def ansible(daemon: Daemon) -> Ansible:
    home = daemon.state_dir.parent / "home"
    home.mkdir(exist_ok=True)
    return Ansible(daemon, home)


def test_container(ansible: Ansible, daemon: Daemon) -> None:
    wanted = {
        "name": "web",
        "source": {"type": "image", "alias": "example"},
        "profiles": ["default"],
        "config": {"user.role": "web"},
        "wait_for_ipv4_addresses": True,
        "timeout": 60,
        "state": "started",
    }
    assert ansible.changed("lxd_container", **wanted)
    assert daemon.get("/1.0/instances/web")["status"] == "Running"
    assert not ansible.changed("lxd_container", **wanted)
    assert ansible.changed("lxd_container", **{**wanted, "config": {"user.role": "database"}})
    assert daemon.get("/1.0/instances/web")["config"]["user.role"] == "database"
    assert ansible.changed("lxd_container", name="web", state="frozen")
    assert ansible.changed("lxd_container", name="web", state="started")
    assert ansible.changed("lxd_container", name="web", state="restarted", force_stop=True)
    assert ansible.changed("lxd_container", name="web", state="stopped", force_stop=True)
    assert not ansible.changed("lxd_container", name="web", state="stopped", force_stop=True)
    assert ansible.changed("lxd_container", name="web", state="absent")
    assert not ansible.changed("lxd_container", name="web", state="absent")
    assert daemon.get("/1.0/instances") == []


def test_profile(ansible: Ansible, daemon: Daemon) -> None:
    wanted = {"name": "macvlan", "config": {"user.role": "web"}, "description": "One", "devices": {}}
    assert ansible.changed("lxd_profile", state="present", **wanted)
    assert daemon.get("/1.0/profiles/macvlan")["config"] == {"user.role": "web"}
    assert not ansible.changed("lxd_profile", state="present", **wanted)
    assert ansible.changed("lxd_profile", state="present", **{**wanted, "description": "Two"})
    assert ansible.changed("lxd_profile", state="present", name="macvlan", new_name="other")
    assert ansible.changed("lxd_profile", state="absent", name="other")
    assert not ansible.changed("lxd_profile", state="absent", name="other")
    assert daemon.get("/1.0/profiles") == ["/1.0/profiles/default"]


def test_project(ansible: Ansible, daemon: Daemon) -> None:
    wanted = {"name": "lab", "config": FEATURES, "description": "One"}
    assert ansible.changed("lxd_project", state="present", **wanted)
    assert not ansible.changed("lxd_project", state="present", **wanted)
    assert ansible.changed("lxd_project", state="present", **{**wanted, "description": "Two"})
    assert ansible.changed("lxd_project", state="absent", name="lab")
    assert daemon.get("/1.0/projects") == ["/1.0/projects/default"]


def test_connection(ansible: Ansible, daemon: Daemon, tmp_path: Path) -> None:
    daemon.create("box", {"type": "image", "alias": "example"})
    try:
        assert ansible.run("raw", {"_raw_params": "hostname"}, host="box")["stdout"].strip() == "box"
        script = tmp_path / "pushed.sh"
        script.write_text("#!/bin/sh\necho pushed to $(hostname)\n")
        assert ansible.run("script", {"_raw_params": str(script)}, host="box")["stdout"].strip() == "pushed to box"
    finally:
        daemon.act("box", "stop", force=True)
        daemon.delete("box")
