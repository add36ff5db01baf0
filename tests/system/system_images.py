"""Root file systems of system containers: one that busybox's init boots in a moment, and Debian with systemd."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

_CACHE = Path(__file__).parents[2] / ".cache" / "system-images"
_DEBIAN = ("bookworm", "systemd,systemd-sysv,systemd-resolved,udev,dbus,iproute2")
# udev: without it, and with /sys writable, networkd waits for it for ever.
_DHCP = "[Match]\\nName=eth0\\n[Network]\\nDHCP=yes\\n"
_CUSTOMIZE = (
    f'printf "{_DHCP}" >"$1/etc/systemd/network/eth0.network"',
    'systemctl --root "$1" --quiet enable systemd-networkd.service',
    ': >"$1/etc/machine-id"',
)

_APPLETS = """
sh cat echo grep hostname id ifconfig init ip kill ls mkdir poweroff ps pwd reboot rm route sleep stat sync touch true
udhcpc wc
""".split()

_INITTAB = """\
::sysinit:/etc/rc.start
::respawn:/bin/sh /etc/rc.network
::shutdown:/etc/rc.stop
::ctrlaltdel:/sbin/reboot
"""

_RC_START = """\
#!/bin/sh
hostname -F /etc/hostname
echo start >>/var/boots
"""

_RC_NETWORK = """\
#!/bin/sh
ip link set lo up
[ -e /sys/class/net/eth0 ] || exec sleep 3600
ip link set eth0 up
exec udhcpc -f -i eth0 -s /etc/udhcpc.script -t 20 -T 1 -x hostname:$(hostname)
"""

_RC_STOP = """\
#!/bin/sh
echo stop >>/var/boots
"""

_UDHCPC = """\
#!/bin/sh
case $1 in
bound | renew)
    ifconfig eth0 "$ip" netmask "$subnet"
    [ -z "$router" ] || route add default gw "$router"
    ;;
esac
"""


def busybox(root: Path) -> Path:
    """Make a root file system of busybox's init in `root`; it notes its starts and its clean stops in /var/boots."""
    for directory in ("bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "var"):
        (root / directory).mkdir(parents=True)
    os.chmod(root / "tmp", 0o1777)
    program = shutil.which("busybox")
    assert program is not None
    shutil.copy(program, root / "bin/busybox")
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    for applet in ("init", "poweroff", "reboot", "halt"):
        (root / "sbin" / applet).symlink_to("/bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/inittab").write_text(_INITTAB)
    (root / "etc/hostname").write_text("of-the-image\n")
    for name, text in (
        ("rc.start", _RC_START),
        ("rc.network", _RC_NETWORK),
        ("rc.stop", _RC_STOP),
        ("udhcpc.script", _UDHCPC),
    ):
        (root / "etc" / name).write_text(text)
        (root / "etc" / name).chmod(0o755)
    return root


def debian() -> Path:
    """A tarball of a root file system of Debian with systemd; made once, then kept in the checkout's .cache."""
    suite, packages = _DEBIAN
    path = _CACHE / f"debian-{hashlib.sha256(' '.join((*_DEBIAN, *_CUSTOMIZE)).encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        # What is only read by people and package managers makes up half of it.
        leave_out = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/var/lib/apt/lists/*_*")
        subprocess.run(
            (
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                "--format=tar",
                f"--include={packages}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in leave_out),
                *(f"--customize-hook={command}" for command in _CUSTOMIZE),
                suite,
                str(temporary),
            ),
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )
        for outdated in _CACHE.glob("debian-*.tar"):
            outdated.unlink()
        temporary.rename(path)
    return path


def pack(root: Path, tarball: Path) -> Path:
    """A directory as a tarball."""
    with tarfile.open(tarball, "w") as tar:
        tar.add(root, arcname=".")
    return tarball


METADATA = """\
architecture: x86_64
creation_date: 1700000000
properties:
  description: {what}
  os: {what}
templates:
  /etc/hostname:
    when: [create, copy, rename]
    template: hostname.tpl
  /etc/hosts:
    when: [create, copy, rename]
    template: hosts.tpl
  /var/lib/templates/started:
    when: [start]
    template: started.tpl
    properties:
      what: {what}
  /var/lib/templates/once:
    when: [create, copy, start]
    create_only: true
    template: once.tpl
"""

TEMPLATES = {
    "hostname.tpl": "{{ container.name }}\n",
    "hosts.tpl": "127.0.0.1\tlocalhost\n127.0.1.1\t{{ instance.name }}\n",
    "started.tpl": '{{ properties.what }} {{ trigger }} {{ path }} {{ config_get("user.note", "no note") }}\n',
    "once.tpl": '{% if config_get("user.note", "") == "" %}none{% else %}{{ config_get("user.note") }}{% endif %}\n',
}


def metadata_tarball(path: Path, what: str) -> Path:
    """The metadata file of an LXD image in two files: metadata.yaml and templates."""
    with tarfile.open(path, "w:gz") as tar:
        entries = {"metadata.yaml": METADATA.format(what=what)}
        entries |= {f"templates/{name}": text for name, text in TEMPLATES.items()}
        for name, text in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path
