"""The configuration that every container gets."""

import pytest

from lxdpy.drivers.liblxc import cgroups
from lxdpy.workers.lifecycle import config


@pytest.mark.parametrize("idmap", [None, (1_000_000, 65_536)])
def test_defaults(idmap: tuple[int, int] | None) -> None:
    items = config.defaults("/i/web", "lxdpy-1/web", idmap)
    values = dict(items)
    assert values["lxc.rootfs.path"] == "dir:/i/web/rootfs"
    assert values["lxc.cgroup.dir.container"] == "lxdpy-1/web"
    assert values["lxc.seccomp.profile"] == config.SECCOMP_PROFILE
    if idmap is None:
        dropped = [value for key, value in items if key == "lxc.cap.drop"]
        assert dropped == ["sys_boot", "mac_admin mac_override sys_time sys_module sys_rawio"]
        assert items.index(("lxc.cgroup2.devices.deny", "a")) < items.index(("lxc.cgroup2.devices.allow", "c 1:3 rwm"))
        assert ("lxc.cgroup.devices.allow", "c 136:* rwm") in items
    else:
        assert [value for key, value in items if key == "lxc.idmap"] == ["u 0 1000000 65536", "g 0 1000000 65536"]
        assert values["lxc.cap.drop"] == "sys_boot"
        assert not any("devices" in key for key in values)


@pytest.mark.parametrize("idmap", [None, (1_000_000, 65_536)])
def test_a_system_may_reboot_and_liblxc_may_not_start_it_again(idmap: tuple[int, int] | None) -> None:
    items = config.defaults("/i/web", "lxdpy-1/web", idmap, system=True)
    assert ("lxc.cap.drop", "sys_boot") not in items
    assert ("lxc.hook.post-stop", "/usr/bin/test $LXC_TARGET != reboot") in items
    assert any(value.startswith(("/dev/null", "tmpfs sys/")) for _, value in items) == (idmap is None)


def test_the_driver_knows_the_cgroups_of_the_worker() -> None:
    assert config.monitor_cgroup("p/web") == cgroups.monitor_cgroup("p/web")
    assert config.pivot_cgroup("p/web") == cgroups.pivot_cgroup("p/web")
