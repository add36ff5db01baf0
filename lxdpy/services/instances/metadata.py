"""What an instance keeps of its image: metadata.yaml, and the templates that it names. Clients may change both.

    instances/NAME/metadata.yaml
    instances/NAME/templates/FILE       plain files

Whoever made an instance's files from outside (an image, a backup) was not trusted: a link is no template.
"""

import errno
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from lxdpy import image_metadata
from lxdpy.errors import InvalidRequestError, NoSpaceError, NotFoundError, WorkerError
from lxdpy.image_metadata import ImageMetadata

MAX_TEMPLATE_BYTES = 1 << 20
MAX_TEMPLATES = 1000
_MAX_NAME_BYTES = 255


def copy(source: Path, target: Path) -> None:
    """Copy what an image, or another instance, keeps of its image to an instance's directory. Raises OSError."""
    try:
        data = _read(source / image_metadata.FILE, image_metadata.MAX_BYTES)
    except FileNotFoundError:
        return
    _write(target / image_metadata.FILE, data)
    for name in _names(source):
        (target / image_metadata.TEMPLATES).mkdir(mode=0o755, exist_ok=True)
        _write(target / image_metadata.TEMPLATES / name, _read(source / image_metadata.TEMPLATES / name))


def read(directory: Path) -> ImageMetadata | None:
    """An instance's metadata; None when it keeps none. Raises InvalidRequestError for a damaged one, WorkerError."""
    try:
        return image_metadata.parse(_read(directory / image_metadata.FILE, image_metadata.MAX_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise WorkerError(f"Cannot read {directory / image_metadata.FILE}: {exc.strerror}") from exc


def write(directory: Path, metadata: ImageMetadata) -> None:
    """Replace an instance's metadata, whole or not at all. Raises InvalidRequestError, NoSpaceError, WorkerError."""
    data = image_metadata.dump(metadata)
    if len(data) > image_metadata.MAX_BYTES:
        raise InvalidRequestError(f"Invalid metadata: it has more than {image_metadata.MAX_BYTES} bytes")
    _replace(directory / image_metadata.FILE, data)


def templates(directory: Path) -> list[str]:
    """Names of an instance's templates. Raises WorkerError."""
    try:
        return _names(directory)
    except OSError as exc:
        raise WorkerError(f"Cannot list {directory / image_metadata.TEMPLATES}: {exc.strerror}") from exc


def read_template(directory: Path, name: str) -> bytes:
    """One template. Raises InvalidRequestError for what is no name, NotFoundError, WorkerError."""
    try:
        return _read(_path(directory, name))
    except FileNotFoundError:
        raise NotFoundError(f"Template {name!r:.100} not found") from None
    except OSError as exc:
        raise WorkerError(f"Cannot read template {name!r:.100}: {exc.strerror}") from exc


def write_template(directory: Path, name: str, data: bytes) -> None:
    """Make a template or replace it, whole or not at all. Raises InvalidRequestError, NoSpaceError, WorkerError."""
    path = _path(directory, name)
    if len(data) > MAX_TEMPLATE_BYTES:
        raise InvalidRequestError(f"Invalid template {name!r:.100}: it has more than {MAX_TEMPLATE_BYTES} bytes")
    if not path.exists() and len(templates(directory)) >= MAX_TEMPLATES:
        raise InvalidRequestError(f"Cannot create template {name!r:.100}: there are {MAX_TEMPLATES} already")
    _replace(path, data)


def delete_template(directory: Path, name: str) -> None:
    """Delete a template. Raises InvalidRequestError for what is no name, NotFoundError, WorkerError."""
    try:
        _path(directory, name).unlink()
    except FileNotFoundError:
        raise NotFoundError(f"Template {name!r:.100} not found") from None
    except OSError as exc:
        raise WorkerError(f"Cannot delete template {name!r:.100}: {exc.strerror}") from exc


def _path(directory: Path, name: str) -> Path:
    if not name or name.startswith(".") or "/" in name or "\0" in name or len(os.fsencode(name)) > _MAX_NAME_BYTES:
        raise InvalidRequestError(f"Invalid template name {name!r:.100}: expected a file's name without a slash")
    return directory / image_metadata.TEMPLATES / name


def _names(directory: Path) -> list[str]:
    try:
        with os.scandir(directory / image_metadata.TEMPLATES) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith(".")
            )[:MAX_TEMPLATES]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: Path, max_bytes: int = MAX_TEMPLATE_BYTES) -> bytes:
    """A plain file's first bytes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return file.read(max_bytes)


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
    path.chmod(0o644)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        _write(temporary, data)
        temporary.rename(path)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink()
        kind = NoSpaceError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else WorkerError
        raise kind(f"Cannot write {path}: {exc.strerror}") from exc
