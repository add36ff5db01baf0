"""Write image layers and OCI image layouts: plain tar streams of a directory, gzip by pigz, JSON around them.

LAYOUT/oci-layout  index.json          one entry per tag (annotation org.opencontainers.image.ref.name)
       blobs/sha256/HEX                layers, configs, manifests
"""

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MTIME = 1_700_000_000  # one date for all entries: the same input gives the same layers
CREATED = "2023-11-14T22:13:20Z"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Layer:
    """A gzip-compressed layer in a layout."""

    digest: str
    size: int
    diff_id: str
    entries: int
    unpacked: int


class LayerWriter:
    """Add entries to one layer's tar stream."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.entries = 0
        self.unpacked = 0

    def add(self, info: tarfile.TarInfo, source: Path | None = None) -> None:
        """Write one entry; a regular file's bytes come from `source`."""
        info.mtime = MTIME
        if source is None:
            self._tar.addfile(info)
        else:
            with source.open("rb") as file:
                self._tar.addfile(info, file)
        self.entries += 1
        self.unpacked += info.size

    def directory(self, name: str, *, owner: int = 0, mode: int = 0o755) -> None:
        """Add a directory entry."""
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
        self.add(info)

    def hardlink(self, name: str, target: str) -> None:
        """Add a second name of a file that this layer already has."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = tarfile.LNKTYPE, target, 0o644
        self.add(info)

    def whiteout(self, name: str) -> None:
        """Delete `name` of the layers below."""
        parent, _, base = name.rpartition("/")
        self.add(tarfile.TarInfo(f"{parent}/.wh.{base}"))

    def opaque(self, name: str) -> None:
        """Hide what the layers below have in directory `name`."""
        self.directory(name)
        self.add(tarfile.TarInfo(f"{name}/.wh..wh..opq"))

    def parents(self, name: str) -> None:
        """Add the directories above `name`, as image builders do."""
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            self.directory("/".join(parts[:depth]))

    def tree(self, source: Path, prefix: str, *, owner: int | None = None) -> None:
        """Add everything below `source` under `prefix`, directories first, sorted; `owner` replaces user and group.

        A second name of a file that was added from `source` becomes a hardlink: gettarinfo notes inodes.
        """
        for path in _walk(source):
            info = self._tar.gettarinfo(path, os.path.join(prefix, path.relative_to(source).as_posix()))
            info.uname = info.gname = ""
            if owner is not None:
                info.uid = info.gid = owner
            self.add(info, path if info.isreg() else None)


def _walk(directory: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(directory), key=lambda item: item.name):
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path)


class _Tee:
    """A write-only file that counts and hashes what it passes on."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)


class Layout:
    """An OCI image layout being filled."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._index: list[dict[str, Any]] = []

    def layer(self, fill: Callable[[LayerWriter], None]) -> Layer:
        """Write one layer through `fill`."""
        partial = self._directory / "partial"
        with partial.open("wb") as blob, _pigz(blob.fileno()) as pigz:
            stream: Any = _Tee(pigz)
            with tarfile.open(mode="w|", fileobj=stream, format=tarfile.PAX_FORMAT) as tar:
                writer = LayerWriter(tar)
                fill(writer)
        with partial.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        size = partial.stat().st_size
        partial.rename(self._blobs / digest)
        return Layer(digest, size, f"sha256:{stream.sha256.hexdigest()}", writer.entries, writer.unpacked)

    def image(self, tag: str, layers: Sequence[Layer], command: Sequence[str]) -> None:
        """Write the config and manifest of one image and name it `tag`."""
        config = self._json(
            "application/vnd.oci.image.config.v1+json",
            {
                "architecture": "amd64",
                "os": "linux",
                "created": CREATED,
                "config": {"Cmd": list(command), "Env": [PATH]},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
                "history": [{"created": CREATED, "created_by": f"layer {n}"} for n in range(len(layers))],
            },
        )  # fmt: skip
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = self._json(
            media_type,
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": config,
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": f"sha256:{layer.digest}",
                        "size": layer.size,
                    }
                    for layer in layers
                ],
            },
        )
        self._index.append({**manifest, "annotations": {"org.opencontainers.image.ref.name": tag}})

    def finish(self) -> None:
        """Write the index."""
        (self._directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self._index}))
        (self._directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def _json(self, media_type: str, document: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps(document, separators=(",", ":")).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


@contextmanager
def _pigz(output: int) -> Iterator[Any]:
    """A pipe into pigz (as fast as two cores allow, the same bytes each time: -n keeps name and date out)."""
    process = subprocess.Popen(["nice", "pigz", "-n", "-6", "-p", "2"], stdin=subprocess.PIPE, stdout=output)
    assert process.stdin is not None
    try:
        yield process.stdin
    finally:
        process.stdin.close()
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, "pigz")
