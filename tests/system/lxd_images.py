"""LXD images as files: busybox, a metadata.yaml, a template, and a few files that are hard to get right."""

import io
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
APPLETS = "sh cat ls stat echo id sleep true init poweroff hostname touch mknod".split()
METADATA = """\
architecture: x86_64
creation_date: 1700000000
expiry_date: 0
properties:
  description: a busybox of %s
  os: busybox
  release: 20.10
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
    properties: {}
"""
TEMPLATE = b"{{ container.name }}\n"
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
MTIME = 1_600_000_000


def metadata(what: str) -> bytes:
    """A metadata.yaml that says `what` it is of."""
    return (METADATA % what).encode()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Add an entry: a file with `data`, or what `fields` say."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.size = MTIME, 0o644, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


def add_rootfs(archive: tarfile.TarFile, prefix: str = "") -> None:
    """Add a root file system below `prefix` ("" or "rootfs/")."""
    for directory, mode in (("", 0o755), ("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700)):
        add(archive, f"{prefix}{directory}" or "./", type=tarfile.DIRTYPE, mode=mode)
    for directory in ("dev/", "proc/", "sys/", "run/", "sbin/"):
        add(archive, f"{prefix}{directory}", type=tarfile.DIRTYPE, mode=0o755)
    add(archive, f"{prefix}bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
    for applet in APPLETS:
        add(archive, f"{prefix}bin/{applet}", type=tarfile.SYMTYPE, linkname="busybox", mode=0o777)
    add(archive, f"{prefix}sbin/init", type=tarfile.LNKTYPE, linkname=f"{prefix}bin/busybox")
    add(archive, f"{prefix}etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    add(archive, f"{prefix}etc/hostname", b"image\n", uid=7, gid=8, mode=0o600)
    # To OCI layers these would be whiteouts.
    add(archive, f"{prefix}etc/.wh.kept", b"no whiteout\n")
    add(archive, f"{prefix}etc/.wh..wh..opq", b"no marker\n")
    add(archive, f"{prefix}etc/sudo", b"#!/bin/sh\n", mode=0o4755)
    add(archive, f"{prefix}dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add(archive, f"{prefix}run/fifo", type=tarfile.FIFOTYPE, mode=0o600)
    add(
        archive,
        f"{prefix}bin/ping",
        b"#!/bin/sh\n",
        mode=0o755,
        pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")},
    )


def unified(path: Path, mode: str = "w:gz", what: str = "one file") -> Path:
    """One file that holds everything."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        add(archive, "metadata.yaml", metadata(what))
        add(archive, "templates/", type=tarfile.DIRTYPE, mode=0o755)
        add(archive, "templates/hostname.tpl", TEMPLATE)
        add_rootfs(archive, "rootfs/")
    return path


def metadata_file(path: Path, what: str = "two files") -> Path:
    """The first one of two files."""
    with tarfile.open(path, "w:xz") as archive:
        add(archive, "metadata.yaml", metadata(what))
        add(archive, "templates/hostname.tpl", TEMPLATE)
    return path


def rootfs_tarball(path: Path, mode: str = "w:gz") -> Path:
    """The second one, as a tarball."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        add_rootfs(archive)
    return path


def rootfs_squashfs(path: Path, tarball: Path) -> Path:
    """The second one as squashfs, made of the (plain) tarball."""
    with tarball.open("rb") as file:
        subprocess.run(("tar2sqfs", "--quiet", "--force", str(path)), stdin=file, check=True, capture_output=True)
    return path
