"""An LXD image's files as they came, for clients that want them back."""

from dataclasses import dataclass
from typing import BinaryIO

from lxdpy.db.images import ImageKind, ImageRecord
from lxdpy.drivers.base import Store
from lxdpy.errors import UnsupportedError

_EXTENSIONS = (
    (b"\x1f\x8b", ".tar.gz"),
    (b"BZh", ".tar.bz2"),
    (b"\xfd7zXZ\0", ".tar.xz"),
    (b"\x28\xb5\x2f\xfd", ".tar.zst"),
    (b"hsqs", ".squashfs"),
    (b"\x5d\x00\x00", ".tar.lzma"),
)


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One of the files, open: whoever gets it closes it."""

    part: str
    """metadata or rootfs; "" for the one that holds everything."""
    name: str
    size: int
    file: BinaryIO


def export(image: ImageRecord, store: Store) -> list[ExportedFile]:
    """Open an image's files. Raises UnsupportedError for an OCI image, NotFoundError when they are gone."""
    if image.kind is not ImageKind.LXD:
        raise UnsupportedError(
            f'Cannot export image "{image.fingerprint[:12]}": it is an OCI image, and no file could have its '
            'fingerprint; copy it from the store with "skopeo copy oci:STATE_DIR:NAME ...", or publish an instance'
        )
    digests = [digest for digest in image.blobs if digest != image.config_digest]
    opened: list[ExportedFile] = []
    try:
        for number, digest in enumerate(digests):
            file, size = store.open_blob(digest)
            extension = _extension(file)
            if len(digests) == 1:
                opened.append(ExportedFile("", f"{image.fingerprint}{extension}", size, file))
            elif number == 0:
                opened.append(ExportedFile("metadata", f"meta-{image.fingerprint}{extension}", size, file))
            else:
                opened.append(ExportedFile("rootfs", f"{image.fingerprint}{extension}", size, file))
    except BaseException:
        close(opened)
        raise
    return opened


def close(files: list[ExportedFile]) -> None:
    """Close them all."""
    for exported in files:
        exported.file.close()


def _extension(file: BinaryIO) -> str:
    head = file.read(512)
    file.seek(0)
    # A plain tar may begin with any name.
    if head[257:262] != b"ustar":
        for magic, extension in _EXTENSIONS:
            if head.startswith(magic):
                return extension
    return ".tar"
