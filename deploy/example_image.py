#!/usr/bin/python3
"""A small OCI image of three layers around Debian's static busybox, pushed to a registry over plain HTTP.

    python3 deploy/example_image.py --registry 127.0.0.1:5000 --user demo:demo [--name example:1]

    layer 1   busybox and a link per applet, /etc, /tmp, and an /etc/motd of its own
    layer 2   /app/hello, which the image runs: it says hello, then prints a line every few seconds until SIGTERM
    layer 3   a whiteout: /etc/motd is gone

The same input gives the same bytes, so a second push finds every blob in place. Standard library only.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

DEFAULT_NAME = "example:1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

HELLO = """\
#!/bin/sh
# The image's command: something to see in the log, and a clean end on SIGTERM.
trap 'echo "SIGTERM: goodbye"; exit 0' TERM
echo "hello from $(hostname): ${GREETING:-no greeting}"
count=0
while :; do
    count=$((count + 1))
    echo "tick $count"
    # `wait` ends at once when the signal comes; a sleep in the foreground would hold it back.
    sleep 5 &
    wait $!
done
"""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
_CREATED = "2024-01-01T00:00:00Z"
_MTIME = 1704067200
_TIMEOUT_S = 30

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with their media type."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """`sha256:HEX` of the bytes."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def descriptor(self) -> Json:
        """As a manifest refers to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest, its config, and its layers from the base up."""

    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer: a link with `target`, a file with `data`, else a directory."""

    path: str
    mode: int
    data: bytes | None = None
    target: str | None = None


class RegistryError(Exception):
    """A registry's answer that stops a push."""


def build(busybox: Path = Path("/bin/busybox")) -> Image:
    """The example image. Raises OSError, or RuntimeError when `busybox` is none or is not static."""
    history = [
        ("busybox with its applets", _busybox_layer(busybox)),
        ("/app/hello", [Entry("app", 0o755), Entry("app/hello", 0o755, data=HELLO.encode())]),
        ("rm /etc/motd", [Entry("etc/.wh.motd", 0o644, data=b"")]),
    ]
    tars = [_tar(entries) for _, entries in history]
    layers = tuple(Blob(LAYER_TYPE, gzip.compress(tar, 6, mtime=0)) for tar in tars)
    config = _json_blob(
        CONFIG_TYPE,
        {
            "created": _CREATED,
            "architecture": _architecture(),
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=three layers, one whiteout"],
                "Cmd": ["/app/hello"],
                "WorkingDir": "/app",
                "StopSignal": "SIGTERM",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
            "history": [{"created": _CREATED, "created_by": text} for text, _ in history],
        },
    )
    manifest = _json_blob(
        MANIFEST_TYPE,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor,
            "layers": [layer.descriptor for layer in layers],
        },
    )
    return Image(manifest, config, layers)


def _busybox_layer(busybox: Path) -> list[Entry]:
    binary = busybox.read_bytes()
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
    if listing.returncode != 0 or b"/lib64/ld-linux" in binary or b"/lib/ld-linux" in binary:
        raise RuntimeError(f"Cannot build the example image: {busybox} is no static busybox (apt: busybox-static)")
    applets = sorted(set(listing.stdout.split()) - {"busybox"})
    return [
        *(Entry(path, 0o755) for path in ("bin", "dev", "etc", "proc", "root", "run", "sys", "usr", "usr/bin", "var")),
        Entry("tmp", 0o1777),
        Entry("bin/busybox", 0o755, data=binary),
        *(Entry(f"bin/{applet}", 0o777, target="busybox") for applet in applets),
        Entry("usr/bin/env", 0o777, target="../../bin/busybox"),
        Entry("etc/passwd", 0o644, data=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        Entry("etc/group", 0o644, data=b"root:x:0:\nnogroup:x:65534:\n"),
        Entry("etc/motd", 0o644, data=b"A layer above removes this file.\n"),
    ]


def _tar(entries: Sequence[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.mtime = entry.mode, _MTIME
            if entry.target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.target
            elif entry.data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data or b""))
    return buffer.getvalue()


def _json_blob(media_type: str, document: Json) -> Blob:
    return Blob(media_type, json.dumps(document, separators=(",", ":"), sort_keys=True).encode())


def _architecture() -> str:
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


class Pusher:
    """Pushes to one repository of one registry, over plain HTTP, with a token where the registry wants one."""

    def __init__(self, registry: str, repository: str, *, user: str = "", password: str = "") -> None:
        self._base = f"http://{registry}/v2/{repository}/"
        self._credentials = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._authorization = ""

    def push(self, image: Image, tag: str) -> None:
        """Push what the registry lacks, then the manifest as `tag`. Raises OSError, RegistryError."""
        for blob in (*image.layers, image.config):
            self._push_blob(blob)
        self._request(
            "PUT", f"manifests/{tag}", (201,), body=image.manifest.data, content_type=image.manifest.media_type
        )

    def _push_blob(self, blob: Blob) -> None:
        status, _ = self._request("HEAD", f"blobs/{blob.digest}", (200, 404))
        if status == 200:
            return
        _, location = self._request("POST", "blobs/uploads/", (202,))
        joint = "&" if "?" in location else "?"
        self._request("PUT", f"{location}{joint}{urlencode({'digest': blob.digest})}", (201,), body=blob.data)

    def _request(
        self,
        method: str,
        path: str,
        wanted: tuple[int, ...],
        *,
        body: bytes = b"",
        content_type: str = "application/octet-stream",
    ) -> tuple[int, str]:
        """Status and Location of the answer; asks for a token, once, when the registry wants one."""
        url = urljoin(self._base, path)
        headers = {"Content-Type": content_type, "Authorization": self._authorization}
        status, answer, text = _http(method, url, headers, body)
        if status == 401:
            headers["Authorization"] = self._authorization = self._authorize(answer.get("www-authenticate", ""))
            status, answer, text = _http(method, url, headers, body)
        if status not in wanted:
            raise RegistryError(f"{method} {url}: the registry answered {status}: {text.decode(errors='replace')}")
        return status, urljoin(url, answer.get("location", ""))

    def _authorize(self, challenge: str) -> str:
        """The Authorization header that answers a challenge."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._credentials:
            return f"Basic {self._credentials}"
        values = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() != "bearer" or "realm" not in values:
            raise RegistryError(f"{self._base}: cannot answer the registry's challenge {challenge!r}")
        query = urlencode({key: values[key] for key in ("service", "scope") if key in values})
        headers = {"Authorization": f"Basic {self._credentials}" if self._credentials else ""}
        status, _, text = _http("GET", f"{values['realm']}?{query}", headers)
        if status != 200:
            raise RegistryError(f"{values['realm']}: no token, the service answered {status}")
        return f"Bearer {json.loads(text)['token']}"


def _http(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names) and body of one request; empty headers are left out."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise RegistryError(f"{url}: only plain http is spoken here")
    connection = HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, {name: value for name, value in headers.items() if value})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def main() -> int:
    """Build the image and push it."""
    parser = argparse.ArgumentParser(description="Build a small image from busybox and push it.")
    parser.add_argument("--registry", required=True, metavar="HOST:PORT", help="speaks plain http")
    parser.add_argument("--name", default=DEFAULT_NAME, metavar="REPOSITORY:TAG", help="default: %(default)s")
    parser.add_argument("--user", default="", metavar="NAME:PASSWORD", help="who may push there")
    parser.add_argument("--busybox", type=Path, default=Path("/bin/busybox"), help="a static one (%(default)s)")
    options = parser.parse_args()
    repository, _, tag = options.name.partition(":")
    user, _, password = options.user.partition(":")
    try:
        image = build(options.busybox)
        Pusher(options.registry, repository, user=user, password=password).push(image, tag or "latest")
    except (OSError, RuntimeError, RegistryError) as exc:
        print(f"Cannot push {options.name} to {options.registry}: {exc}", file=sys.stderr)
        return 1
    total = sum(len(layer.data) for layer in image.layers)
    print(f"pushed {options.registry}/{repository}:{tag or 'latest'}: {len(image.layers)} layers, {total >> 10} KiB")
    print(f"digest {image.manifest.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
