"""What this machine can do, and in which order the tests run.

A test marked by an ability (`_PROBES` has them all) is skipped, with the reason, where the ability is missing. Named in
LXDPY_REQUIRE (`LXDPY_REQUIRE=lxc,overlay`, or `all`) a missing ability is a failure instead: tests/run.sh sets it, so
that nothing is skipped in silence.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from example_image import Image, Pusher, build
from example_registry import ExampleRegistry

from lxdpy.daemon.host import MINIMUM_KERNEL
from lxdpy.linux.cgroup import cgroup_mounts

_ORDER = ("unit", "contract", "integration", "system")
_TESTS = Path(__file__).parent
_CLIENTS = _TESTS.parent / ".cache/clients"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _lxc() -> str | None:
    if reason := _root():
        return reason
    # In a process of its own: nothing may import liblxc into this one.
    if reason := _fails(sys.executable, "-I", "-c", "import _lxc"):
        return f"python3-lxc does not load: {reason}"
    mounts = cgroup_mounts()
    if not mounts.v1 and mounts.v2 is None:
        return "no cgroup hierarchy is mounted"
    return None


def _overlay() -> str | None:
    if reason := _root():
        return reason
    release = os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None or (int(match[1]), int(match[2])) < MINIMUM_KERNEL:
        return f"kernel {release} has no overlay on idmapped layers"
    script = (
        "mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir l u w m && "
        "mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m && : >m/written"
    )
    if reason := _fails("unshare", "--mount", "sh", "-c", script):
        return f"cannot mount an overlay: {reason}"
    return None


def _network() -> str | None:
    if reason := _root():
        return reason
    script = "ip link add br0 type bridge && ip link add veth0 type veth peer name veth1 && nft add table inet t"
    if reason := _fails("unshare", "--net", "sh", "-c", script):
        return f"cannot make a bridge, a veth pair and a firewall table: {reason}"
    return None


def _registry() -> str | None:
    for command in ("docker-registry", "openssl", "skopeo", "busybox"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    return None


def _lxd_client() -> str | None:
    if shutil.which("lxc") is None:
        return "lxd-client, LXD's own client, is not installed"
    return _fails("lxc", "--version")


def _lxd() -> str | None:
    if shutil.which("lxd") is None:
        return "lxd, the daemon, is not installed"
    return _fails("lxd", "--version") or _lxd_client()


def _debian() -> str | None:
    return None if shutil.which("mmdebstrap") else "mmdebstrap is not installed"


def _clients() -> str | None:
    return None if (_CLIENTS / "stamp").exists() else f"pylxd and Ansible are not in {_CLIENTS} (tests/clients.sh)"


def _fails(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as exc:
        return str(exc)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


_PROBES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "lxc": _lxc,
    "overlay": _overlay,
    "network": _network,
    "registry": _registry,
    "lxd_client": _lxd_client,
    "clients": _clients,
    "lxd": _lxd,
    "debian": _debian,
}


@cache
def _lacking(ability: str) -> str | None:
    """Why this machine lacks an ability; None when it has it."""
    return _PROBES[ability]()


def _required() -> set[str]:
    names = set(filter(None, re.split(r"[,\s]+", os.environ.get("LXDPY_REQUIRE", ""))))
    if "all" in names:
        return set(_PROBES)
    if unknown := names - set(_PROBES):
        raise pytest.UsageError(f"LXDPY_REQUIRE names unknown abilities: {', '.join(sorted(unknown))}")
    return names


def pytest_report_header() -> list[str]:
    """Say what can be tested here."""
    required = _required()
    return [f"ability {name}{' (required)' if name in required else ''}: {_lacking(name) or 'yes'}" for name in _PROBES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first."""

    def rank(item: pytest.Item) -> int:
        parts = item.path.relative_to(_TESTS).parts if item.path.is_relative_to(_TESTS) else ("",)
        return _ORDER.index(parts[0]) if parts[0] in _ORDER else len(_ORDER)

    items.sort(key=rank)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose ability is missing."""
    for name in _PROBES:
        if item.get_closest_marker(name) is None or (reason := _lacking(name)) is None:
            continue
        if name in _required():
            pytest.fail(f"LXDPY_REQUIRE demands {name}: {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def example_image() -> Image:
    """Three layers around busybox (deploy/example_image.py)."""
    return build()


@pytest.fixture(scope="session")
def example_registry(tmp_path_factory: pytest.TempPathFactory, example_image: Image) -> Iterator[ExampleRegistry]:
    """A real registry with token authentication that holds the example image as `example:1`."""
    with ExampleRegistry(tmp_path_factory.mktemp("registry")) as registry:
        Pusher(registry.host, "example", user=registry.user, password=registry.password).push(example_image, "1")
        yield registry
