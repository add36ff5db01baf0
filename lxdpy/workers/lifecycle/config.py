"""The liblxc configuration that every container gets, before the items its instance asks for.

Seccomp profile, dropped capabilities and device rules are those of liblxc's common.conf; userns.conf lifts what the
kernel enforces for user namespaces anyway.

An application has no CAP_SYS_BOOT, as in docker. A system container may reboot, which ends it like a halt: liblxc would
start it again by itself, behind the daemon's back and without what a start prepares, so a hook tells it not to.
"""

from __future__ import annotations

import os

SECCOMP_PROFILE = "/usr/share/lxc/config/common.seccomp"
CONSOLE_LOG_BYTES = "16MB"

_DROPPED_CAPABILITIES = "mac_admin mac_override sys_time sys_module sys_rawio"
_DROPPED_OF_APPLICATIONS = "sys_boot"

# A failing hook has liblxc stop a container that reboots (start.c: lxc_end).
_NO_REBOOT = "/usr/bin/test $LXC_TARGET != reboot"

# Any node may be made; only these work: null, zero, full, tty, console, ptmx, random, urandom, pts/*, fuse.
_DEVICES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 10:229 rwm",
)

_TUN = "c 10:200 rwm"

# Files that tell of the host, as docker hides them.
_MASKED_FILES = ("proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/sched_debug")
_MASKED_DIRECTORIES = ("proc/acpi", "proc/asound", "proc/scsi", "sys/firmware")

# What the init of a distribution would mount or use, and can't in a user namespace: as LXD, the host's. Who is root
# there may do with them what everybody may.
_HOSTS_FILES = ("dev/fuse", "dev/net/tun")
_HOSTS_DIRECTORIES = (
    "proc/sys/fs/binfmt_misc",
    "sys/firmware/efi/efivars",
    "sys/fs/fuse/connections",
    "sys/fs/pstore",
    "sys/kernel/debug",
    "sys/kernel/security",
    "sys/kernel/tracing",
)


def defaults(
    directory: str, cgroup: str, idmap: tuple[int, int] | None, *, system: bool = False
) -> list[tuple[str, str]]:
    """Configuration items, in order, for a container in `directory`; `idmap` is (base, size).

    `system`: it runs the init of a distribution, which mounts and guards /proc and /sys for its services.
    """
    items = [
        ("lxc.log.file", f"{directory}/lxc.log"),
        ("lxc.log.level", "WARN"),
        ("lxc.rootfs.path", f"dir:{directory}/rootfs"),
        ("lxc.cgroup.dir.container", cgroup),
        ("lxc.cgroup.dir.monitor", monitor_cgroup(cgroup)),
        ("lxc.cgroup.dir.monitor.pivot", pivot_cgroup(cgroup)),
        # PID 1 gets /dev/console as stdio only when there are ptys at all.
        ("lxc.pty.max", "1024"),
        ("lxc.tty.max", "0"),
        ("lxc.autodev", "1"),
        ("lxc.console.logfile", f"{directory}/console.log"),
        ("lxc.console.size", CONSOLE_LOG_BYTES),
        ("lxc.console.rotate", "1"),
        ("lxc.seccomp.profile", SECCOMP_PROFILE),
        ("lxc.mount.entry", "tmpfs dev/shm tmpfs nosuid,nodev,mode=1777,create=dir 0 0"),
        ("lxc.mount.entry", "mqueue dev/mqueue mqueue nosuid,nodev,noexec,create=dir,optional 0 0"),
    ]
    if system:
        items.append(("lxc.hook.version", "1"))
        items.append(("lxc.hook.post-stop", _NO_REBOOT))
        items += [
            ("lxc.mount.entry", f"/{path} {path} none bind,create=file,optional 0 0")
            for path in _existing(_HOSTS_FILES)
        ]
    else:
        items.append(("lxc.cap.drop", _DROPPED_OF_APPLICATIONS))
    if not system or idmap is None:
        items += _masks()
    if idmap is None:
        items.append(("lxc.mount.auto", "proc:mixed sys:mixed cgroup:mixed"))
        items.append(("lxc.cap.drop", _DROPPED_CAPABILITIES))
        for version in ("cgroup", "cgroup2"):
            items.append((f"lxc.{version}.devices.deny", "a"))
            items += [(f"lxc.{version}.devices.allow", device) for device in _DEVICES]
            if system:
                items.append((f"lxc.{version}.devices.allow", _TUN))
    else:
        base, size = idmap
        # What of /proc/sys is a system's own, it may set; the rest belongs to the host's root, who is nobody here.
        items.append(("lxc.mount.auto", f"proc:{'rw' if system else 'mixed'} sys:rw cgroup:mixed"))
        if system:
            items += _hosts_mounts()
        items += [("lxc.idmap", f"{kind} 0 {base} {size}") for kind in ("u", "g")]
    if _apparmor():
        items.append(("lxc.apparmor.profile", "generated"))
        # systemd gives its services mount namespaces, which the profile denies otherwise; the kernel lets the root of
        # a user namespace do no harm with them.
        items.append(("lxc.apparmor.allow_nesting", "1" if system and idmap is not None else "0"))
    return items


def monitor_cgroup(cgroup: str) -> str:
    """The monitor's cgroup; an instance's name has no dot, so nothing else is called this."""
    return f"{cgroup}.monitor"


def pivot_cgroup(cgroup: str) -> str:
    """Where a monitor goes to remove its own cgroup: one for all instances."""
    return f"{os.path.dirname(cgroup)}/.pivot"


def _masks() -> list[tuple[str, str]]:
    """Mounts over what tells of the host."""
    files = [("lxc.mount.entry", f"/dev/null {path} none bind,optional 0 0") for path in _existing(_MASKED_FILES)]
    return files + [
        ("lxc.mount.entry", f"tmpfs {path} tmpfs ro,nosuid,nodev,noexec,size=0,optional 0 0")
        for path in _existing(_MASKED_DIRECTORIES)
    ]


def _hosts_mounts() -> list[tuple[str, str]]:
    return [("lxc.mount.entry", f"/{path} {path} none rbind,optional 0 0") for path in _existing(_HOSTS_DIRECTORIES)]


def _existing(paths: tuple[str, ...]) -> list[str]:
    return [path for path in paths if os.path.exists(f"/{path}")]


def _apparmor() -> bool:
    """Whether the kernel enforces AppArmor."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read().startswith("Y")
    except FileNotFoundError:
        return False
