"""A simplestreams image server on loopback: static files over https, as images.linuxcontainers.org has them.

streams/v1/index.json, images.json      what there is
images/NAME/SERIAL/lxd.tar.xz           metadata.yaml of a version
                   rootfs.squashfs      its root file system, twice
                   root.tar.xz
"""

import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.fakes.certificates import Certificates

_APPLETS = "sh true false sleep cat echo ls hostname init poweroff halt udhcpc ip mount".split()
_INITTAB = "::sysinit:/bin/true\n::respawn:/bin/sleep 100000\n::shutdown:/bin/true\n"


@dataclass(frozen=True)
class Version:
    """One version of a product; `serial` begins with its day. `forms`: which root file systems it has."""

    serial: str
    forms: tuple[str, ...] = ("squashfs", "root.tar.xz")
    changes: Mapping[str, object] = field(default_factory=dict)
    """Of the items, in the index alone."""


class ImageServer:
    """Serves `directory` until the block ends; what is asked for is in `requests`."""

    def __init__(self, directory: Path, certificates: Certificates | None) -> None:
        self.directory = directory
        self.requests: list[str] = []
        self.cut: dict[str, int] = {}
        """Of a path, after how many bytes the connection breaks, once."""
        self.stall: dict[str, int] = {}
        """Of a path, after how many bytes nothing comes any more until `go_on` is set."""
        self.go_on = threading.Event()
        self._products: dict[str, dict[str, Any]] = {}
        self._made: dict[tuple[str, str, str], dict[str, dict[str, object]]] = {}
        handler = partial(_Handler, self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificates is not None:
            scheme = "https"
            context = certificates.server_context()
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def publish(self, name: str, *versions: Version, aliases: str = "", arch: str = "", **fields: object) -> None:
        """Offer a product; its root file system says of itself NAME SERIAL in /etc/version. Older versions are gone."""
        arch = arch or {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        items = {}
        for version in versions:
            key = (name, arch, version.serial)
            if key not in self._made:
                self._made[key] = self._items(name, version, arch)
            items[version.serial] = {"items": self._made[key]}
        self._products[f"{name}:{arch}:default"] = {
            "aliases": aliases or name,
            "arch": arch,
            "os": "Busybox",
            "release": "1",
            "release_title": "1",
            "variant": "default",
            "versions": items,
            **fields,
        }
        self._write()

    def _write(self) -> None:
        index = {
            "format": "index:1.0",
            "index": {
                "images": {
                    "datatype": "image-downloads",
                    "format": "products:1.0",
                    "path": "streams/v1/images.json",
                    "products": list(self._products),
                }
            },
        }
        products = {
            "datatype": "image-downloads",
            "format": "products:1.0",
            "content_id": "images",
            "products": self._products,
        }
        streams = self.directory / "streams/v1"
        streams.mkdir(parents=True, exist_ok=True)
        for file, document in (("images.json", products), ("index.json", index)):
            part = streams / f"{file}.part"
            part.write_text(json.dumps(document))
            part.rename(streams / file)

    def _items(self, name: str, version: Version, arch: str) -> dict[str, dict[str, object]]:
        directory = self.directory / "images" / name / arch / version.serial
        directory.mkdir(parents=True, exist_ok=True)
        metadata = _metadata(f"{name} {version.serial}", arch)
        (directory / "lxd.tar.xz").write_bytes(metadata)
        root = directory / "root"
        _rootfs(root, f"{name} {version.serial}")
        tarball = _tarball(root)
        (directory / "root.tar.xz").write_bytes(tarball)
        squashfs = directory / "rootfs.squashfs"
        squashfs.unlink(missing_ok=True)
        command = ("mksquashfs", root, squashfs, "-quiet", "-no-progress", "-processors", "1", "-all-root")
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(root)
        roots = {"squashfs": squashfs.read_bytes(), "root.tar.xz": tarball}
        files = {"squashfs": "rootfs.squashfs", "root.tar.xz": "root.tar.xz"}
        combined = {form: hashlib.sha256(metadata + data).hexdigest() for form, data in roots.items()}
        path = f"images/{name}/{arch}/{version.serial}"
        items: dict[str, dict[str, object]] = {
            "lxd.tar.xz": {
                **_item("lxd.tar.xz", f"{path}/lxd.tar.xz", metadata),
                "combined_sha256": combined["root.tar.xz"],
                "combined_rootxz_sha256": combined["root.tar.xz"],
                "combined_squashfs_sha256": combined["squashfs"],
            }
        }
        for form in version.forms:
            items[form] = _item(form, f"{path}/{files[form]}", roots[form])
        for item in items.values():
            item.update(version.changes)
        return items


class _Handler(SimpleHTTPRequestHandler):
    """Static files with ranges."""

    protocol_version = "HTTP/1.1"

    def __init__(self, owner: ImageServer, *args: Any, **kwargs: Any) -> None:
        self._owner = owner
        super().__init__(*args, directory=str(owner.directory), **kwargs)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._owner.requests.append(self.path + (f" {range_}" if (range_ := self.headers.get("Range")) else ""))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start = int(range_.removeprefix("bytes=").rstrip("-")) if range_ else 0
        self.send_response(206 if range_ else 200)
        if range_:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if (stall := self._owner.stall.get(self.path)) is not None and not self._owner.go_on.is_set():
            self.wfile.write(data[start : start + stall])
            start += stall
            self._owner.go_on.wait(60)
        cut = self._owner.cut.pop(self.path, None)
        self.wfile.write(data[start : None if cut is None else start + cut])
        if cut is not None:
            self.close_connection = True


def _item(ftype: str, path: str, data: bytes) -> dict[str, object]:
    return {"ftype": ftype, "path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _metadata(description: str, arch: str) -> bytes:
    text = (
        f"architecture: {arch}\ncreation_date: 1700000000\nproperties:\n  description: {description}\n  os: Busybox\n"
        "templates:\n  /etc/hostname:\n    when: [create, copy]\n    template: hostname.tpl\n"
    )
    return _tar_xz({"metadata.yaml": text.encode(), "templates/hostname.tpl": b"{{ container.name }}\n"})


def _rootfs(root: Path, version: str) -> None:
    for name in ("bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "sbin/init").symlink_to("../bin/busybox")
    (root / "etc/inittab").write_text(_INITTAB)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/version").write_text(f"{version}\n")


def _tarball(root: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(root, ".")
    return lzma.compress(buffer.getvalue(), preset=0)


def _tar_xz(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return lzma.compress(buffer.getvalue(), preset=0)
