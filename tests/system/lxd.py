"""A real LXD, as Debian packages it, on directories of the test's own: what lxdpy is measured with."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.lxc import Lxc

_MOUNTS = ("devlxd", "shmounts")


@contextmanager
def lxd() -> Iterator[Lxc]:
    """The client of an LXD of our own, with a pool and a root disk in the default profile; nothing stays of it."""
    with tempfile.TemporaryDirectory(prefix="lxdpy-lxd-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o711)
        (directory / "lxd").mkdir(mode=0o711)
        environment = {**os.environ, "LXD_DIR": str(directory / "lxd"), "HOME": name}
        with (directory / "log").open("wb") as log:
            daemon = subprocess.Popen(["lxd", "--group=root"], env=environment, stdout=log, stderr=log)
        had_table = _table() is not None
        try:
            subprocess.run(["lxd", "waitready", "--timeout=60"], env=environment, check=True, timeout=70)
            client = Lxc(directory / "lxd", directory / "home")
            client.ok("storage", "create", "default", "dir")
            client.ok("profile", "device", "add", "default", "root", "disk", "pool=default", "path=/")
            yield client
        finally:
            try:
                _shut_down(daemon, environment, Lxc(directory / "lxd", directory / "home"))
            finally:
                if daemon.poll() is None:
                    daemon.terminate()
                daemon.wait(30)
                for mount in _MOUNTS:
                    subprocess.run(["umount", "-l", f"{name}/lxd/{mount}"], capture_output=True, check=False)
        # LXD takes its rules away, and leaves their table. Another LXD on this host makes it anew when it adds rules.
        if not had_table and (table := _table()) is not None and "chain" not in table:
            subprocess.run(["nft", "delete", "table", "inet", "lxd"], check=True)
        assert _leftovers(name) == []


def _table() -> str | None:
    """LXD's firewall table; None when there is none."""
    done = subprocess.run(["nft", "list", "table", "inet", "lxd"], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _leftovers(directory: str) -> list[str]:
    left = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if directory in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if directory in process.joinpath("cmdline").read_text():
                left.append(str(process))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return left


def _shut_down(daemon: "subprocess.Popen[bytes]", environment: dict[str, str], client: Lxc) -> None:
    """Delete what has mounts, processes and interfaces, and have it end."""
    if daemon.poll() is not None:
        return
    for one in client.json("list", "--all-projects"):
        client.ok("delete", "--force", "--project", str(one["project"]), str(one["name"]))
    for network in client.json("network", "list"):
        if network["managed"]:
            client.ok("network", "delete", str(network["name"]))
    subprocess.run(["lxd", "shutdown", "--timeout=30"], env=environment, check=True, timeout=60)
