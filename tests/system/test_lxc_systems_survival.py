"""System containers whose daemon is not there when they reboot."""

from pathlib import Path

import pytest

from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc
from tests.system.systems import boots, import_busybox, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.lxd_client,
]


def test_reboot_while_no_daemon_looks(tmp_path: Path) -> None:
    with place() as directory, Daemon(directory / "state") as daemon:
        lxc = Lxc(daemon.state_dir, directory / "home")
        import_busybox(lxc, tmp_path)
        lxc.ok("launch", "busybox", "s2")
        until(lambda: boots(lxc, "s2") == ["start"], "it boots")
        lxc.run("exec", "s2", "--", "/bin/sh", "-c", "(sleep 1; reboot) </dev/null >/dev/null 2>&1 &")
        init = daemon.get("/1.0/instances/s2/state")["pid"]
        daemon.kill()
        until(lambda: not Path(f"/proc/{init}").exists(), "it ends")
        daemon.start()
        until(lambda: boots(lxc, "s2") == ["start", "stop", "start"], "it is started by the next daemon")
