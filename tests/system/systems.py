"""What tests of system containers do again and again with LXD's client."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.system import system_images
from tests.system.lxc import Lxc

_PATIENCE_S = 60.0


def import_busybox(lxc: Lxc, files: Path) -> None:
    """Import the image `busybox`; its files are made in `files`."""
    rootfs = system_images.pack(system_images.busybox(files / "fs"), files / "rootfs.tar")
    metadata = system_images.metadata_tarball(files / "meta.tar.gz", "busybox")
    lxc.ok("image", "import", str(metadata), str(rootfs), "--alias", "busybox")


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def status(lxc: Lxc, name: str) -> str:
    (found,) = lxc.json("list", f"^{name}$")
    return str(found["status"])


def address(lxc: Lxc, name: str) -> str:
    (found,) = lxc.json("list", f"^{name}$")
    state = found["state"]["network"] or {}
    addresses = state.get("eth0", {}).get("addresses", [])
    return next((str(one["address"]) for one in addresses if one["family"] == "inet"), "")


def boots(lxc: Lxc, name: str) -> list[str]:
    """What its start and stop scripts wrote."""
    result = lxc.run("exec", name, "--", "/bin/cat", "/var/boots")
    return result.stdout.decode().split() if result.code == 0 else []
