"""Drivers that live in memory: what services stand on, for tests that need no kernel."""

import asyncio
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lxdpy.drivers.base import (
    BackupSpec,
    BlobEndpoint,
    BlobSource,
    BridgeSpec,
    Collected,
    Compression,
    DiskSpec,
    ExecProcess,
    ExecSpec,
    ExitStatus,
    HostInterface,
    ImageFile,
    ImageFiles,
    InterfaceAddress,
    InterfaceUsage,
    LayerRequest,
    Limits,
    LinkSpec,
    LowerMount,
    PackSpec,
    RemoteFile,
    RemoteImage,
    ResolvedImage,
    ServedHost,
    ServedNetwork,
    StartSpec,
    StoppedRootfs,
    StoredLayer,
    TemplateSource,
    UnpackedBackup,
    Usage,
    image_layer_id,
)
from lxdpy.errors import BusyError, NotFoundError
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.manifest import Manifest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from lxdpy.progress import LayerProgress, LayerState, Progress
from tests.fakes.files import FakeFiles

NO_USAGE = Usage(
    processes=1,
    cpu_ns=2,
    memory_bytes=3,
    memory_peak_bytes=4,
    memory_limit_bytes=None,
    swap_bytes=0,
    swap_peak_bytes=0,
)


def image_documents(layers: Sequence[bytes] = (b"layer",), **config: object) -> tuple[bytes, bytes]:
    """Manifest and config bytes of an image whose layers are these bytes; `config` is the `config` object."""
    document = {
        "architecture": Platform.host().architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sh"], **config},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"tar of " + layer)) for layer in layers]},
        "history": [{"created_by": f"step {number}"} for number, _ in enumerate(layers)],
    }
    config_bytes = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(Digest.of(config_bytes)),
            "size": len(config_bytes),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": str(Digest.of(layer)),
                "size": len(layer),
            }
            for layer in layers
        ],
    }
    return json.dumps(manifest).encode(), config_bytes


class FakeBlobSource:
    """A source that is never asked."""

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        return ()

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        return endpoint


class FakeRegistry:
    """Registries whose images are given by canonical reference."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[bytes, bytes]] = {}
        self.asked: list[str] = []

    async def resolve(
        self, reference: Reference, platform: Platform, *, cached: Callable[[Digest], bytes | None]
    ) -> ResolvedImage:
        self.asked.append(str(reference))
        if str(reference) not in self.images:
            raise NotFoundError(f'Image "{reference}" not found in registry {reference.registry}')
        manifest_bytes, config_bytes = self.images[str(reference)]
        return ResolvedImage(
            reference=reference,
            endpoint=f"https://{reference.registry}",
            manifest_digest=Digest.of(manifest_bytes),
            manifest_bytes=manifest_bytes,
            manifest=Manifest.parse(manifest_bytes, None),
            config_bytes=config_bytes,
            config=ImageConfig.parse(config_bytes),
        )

    def blob_source(self, image: ResolvedImage, blob: Descriptor) -> FakeBlobSource:
        return FakeBlobSource()

    async def aclose(self) -> None:
        pass


class FakeStore:
    """Blobs and layers in dictionaries."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.layers: dict[str, StoredLayer] = {}
        self.held: list[str] = []
        self.images: dict[str, Path] = {}
        self.packed: list[PackSpec] = []
        self.compressions: list[Compression] = []
        """Of backups."""
        self.directory: Path | None = None
        """Where images' metadata goes."""
        self.failure: Exception | None = None
        self.fetched: list[Digest] = []
        self.index: dict[str, Digest] = {}
        self.claimed: set[str] = set()
        self.copying = asyncio.Event()
        """Cleared, it holds a copy up."""
        self.copying.set()
        self.syncs = 0
        self.kept: tuple[set[str], set[Digest]] = (set(), set())

    def read_blob(self, digest: Digest) -> bytes | None:
        return self.blobs.get(digest)

    def write_blob(self, digest: Digest, data: bytes) -> None:
        assert digest.matches(data)
        self.blobs[digest] = data

    def write_index(self, manifests: Sequence[tuple[str, Descriptor]]) -> None:
        self.index = {name: manifest.digest for name, manifest in manifests}

    async def wake(self) -> None:
        pass

    async def materialize(self, layers: Sequence[LayerRequest], progress: Progress) -> tuple[StoredLayer, ...]:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        made = []
        for request in layers:
            layer = StoredLayer(f"d-{request.diff_id.hex}", request.diff_id, 10, 1)
            state = LayerState.EXISTS if layer.id in self.layers else LayerState.DONE
            size = request.descriptor.size
            progress.layer(LayerProgress(str(request.descriptor.digest), size, size, state))
            self.layers[layer.id] = layer
            made.append(layer)
        self.held += [layer.id for layer in made]
        return tuple(made)

    def release(self, layer_ids: Sequence[str]) -> None:
        for layer_id in layer_ids:
            self.held.remove(layer_id)

    def lower_mounts(self, layer_ids: Sequence[str]) -> tuple[LowerMount, ...]:
        return tuple(LowerMount("dir", layer_id) for layer_id in layer_ids)

    def image_directory(self, fingerprint: str) -> Path:
        if image_layer_id(fingerprint) not in self.layers:
            raise NotFoundError(f"Layer i-{fingerprint} is not in the store")
        return self.images[fingerprint]

    def receive(self) -> "FakeIncoming":
        return FakeIncoming()

    def image_file(self, digest: Digest) -> ImageFile:
        if digest not in self.blobs:
            raise NotFoundError(f"Blob {digest} is not in the store")
        return ImageFile(digest, len(self.blobs[digest]))

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        if digest not in self.blobs:
            raise NotFoundError(f"Blob {digest} is not in the store")
        return io.BytesIO(self.blobs[digest]), len(self.blobs[digest])

    async def pack_image(self, spec: PackSpec, progress: Callable[[int], None]) -> ImageFiles:
        """As `unpack_image` reads it."""
        await asyncio.sleep(0)
        progress(1)
        self.packed.append(spec)
        contents = {"metadata.yaml": spec.metadata.decode()}
        if spec.config is not None:
            contents["oci.json"] = spec.config.decode()
        incoming = FakeIncoming()
        await incoming.write(json.dumps(contents).encode())
        return await incoming.finish()

    async def pack_backup(self, spec: BackupSpec, progress: Callable[[int], None]) -> ImageFile:
        """As `unpack_backup` reads it."""
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        progress(1)
        self.compressions.append(spec.compression)
        parts = {part.name: dict(part.texts) for part in spec.parts}
        incoming = FakeIncoming()
        await incoming.write(json.dumps({"index": spec.index, "parts": parts}).encode())
        return (await incoming.finish()).metadata

    async def unpack_backup(self, path: Path, *, volume: bool = False) -> UnpackedBackup:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        with open(path, "rb") as file:  # noqa: ASYNC230
            document = json.load(file)
        directory = Path(tempfile.mkdtemp())
        (directory / "index.yaml").write_text(document["index"])
        parts = {}
        for name, texts in document["parts"].items():
            parts[name] = directory / "parts" / name
            (parts[name] / "fs").mkdir(parents=True)
            for file, text in texts.items():
                (parts[name] / file).write_text(text)
        return UnpackedBackup(directory, parts)

    def discard_backup(self, backup: UnpackedBackup) -> None:
        shutil.rmtree(backup.directory)

    def discard_files(self, files: ImageFiles) -> None:
        for file in files.all:
            if file.path is not None:
                file.path.unlink(missing_ok=True)

    async def fetch_file(
        self, digest: Digest, size: int, source: BlobSource, progress: Callable[[int], None]
    ) -> ImageFile:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        assert isinstance(source, FakeFileSource)
        self.fetched.append(digest)
        progress(size)
        self.blobs[digest] = source.data
        return ImageFile(digest, size)

    async def unpack_image(self, files: ImageFiles) -> StoredLayer:
        """What the file holds is what is beside the root file system, as JSON: {name: text}."""
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        for file in files.all:
            if file.path is not None:
                self.blobs[file.digest] = file.path.read_bytes()
                file.path.unlink()
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        for name, text in json.loads(self.blobs[files.metadata.digest]).items():
            (directory / name).write_text(text)
        self.images[files.fingerprint] = directory
        layer = StoredLayer(image_layer_id(files.fingerprint), Digest("sha256", files.fingerprint), 10, 1)
        self.layers[layer.id] = layer
        self.held.append(layer.id)
        return layer

    def claim(self, layer_id: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.claimed.add(layer_id)

    def adopt(self, layer_id: str, directory: Path) -> StoredLayer:
        """Moves it from STATE/instances/NAME/RW/upper to STATE/layers/ID."""
        if self.failure is not None:
            raise self.failure
        target = directory.parents[3] / "layers" / layer_id
        target.parent.mkdir(exist_ok=True)
        directory.rename(target)
        self.layers[layer_id] = StoredLayer(layer_id, None, 0, 0)
        self.claimed.discard(layer_id)
        return self.layers[layer_id]

    def copy_root(self, layer_id: str, directory: Path) -> None:
        assert layer_id in self.layers

    def adds_nothing(self, layer_id: str, directory: Path) -> bool:
        assert layer_id in self.layers
        return not list(directory.iterdir())

    async def copy_directory(self, source: Path, target: Path) -> None:
        await asyncio.sleep(0)
        await self.copying.wait()
        if self.failure is not None:
            raise self.failure
        shutil.copytree(source, target, symlinks=True)

    async def sync(self) -> None:
        self.syncs += 1

    def layer(self, layer_id: str) -> StoredLayer | None:
        return self.layers.get(layer_id)

    async def collect(self, keep_layers: set[str], keep_blobs: set[Digest]) -> Collected:
        self.kept = (keep_layers, keep_blobs)
        layers = [layer for layer in self.layers if layer not in keep_layers and layer not in self.held]
        blobs = [digest for digest in self.blobs if digest not in keep_blobs]
        for layer in layers:
            del self.layers[layer]
        for digest in blobs:
            del self.blobs[digest]
        return Collected(len(layers), len(blobs), 0)

    async def close(self) -> None:
        pass


class FakeIncoming:
    """An image that comes in memory."""

    def __init__(self) -> None:
        self.files = [b""]
        self.discarded = False

    async def write(self, data: bytes) -> None:
        self.files[-1] += data

    async def next_file(self) -> None:
        self.files.append(b"")

    async def finish(self) -> ImageFiles:
        made = []
        for data in self.files:
            with tempfile.NamedTemporaryFile(delete=False) as file:
                file.write(data)
            made.append(ImageFile(Digest.of(data), len(data), Path(file.name)))
        return ImageFiles(Digest.of(b"".join(self.files)).hex, made[0], made[1] if len(made) > 1 else None)

    def discard(self) -> None:
        self.discarded = True


class FakeTrees:
    """Copies made in this process."""

    def __init__(self) -> None:
        self.copying = asyncio.Event()
        """Cleared, it holds copies up."""
        self.copying.set()
        self.failure: Exception | None = None

    async def copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target, symlinks=True)
        await self.copying.wait()
        if self.failure is not None:
            raise self.failure

    async def usage(self, path: Path) -> int:
        return 4096


class FakeImageServers:
    """Image servers whose images are given by (server, name); a file's source says which file it is."""

    def __init__(self) -> None:
        self.images: dict[tuple[str, str], RemoteImage] = {}
        self.files: dict[Digest, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.architectures: list[tuple[str, str]] = []

    def publish(self, server: str, name: str, *contents: bytes, **changes: Any) -> RemoteImage:
        """Offer an image made of files with these contents."""
        files = tuple(RemoteFile(f"images/{n}", Digest.of(data), len(data)) for n, data in enumerate(contents))
        self.files.update({Digest.of(data): data for data in contents})
        values: dict[str, Any] = {"created_at": 1.0, "expires_at": 0.0, "properties": {"os": "Busybox"}, **changes}
        image = RemoteImage(server, Digest.of(b"".join(contents)).hex, files, filename="lxd.tar.xz", **values)
        self.images[server, name] = image
        return image

    async def find(
        self, server: str, name: str, *, architectures: Sequence[tuple[str, str]], certificate: str
    ) -> RemoteImage:
        await asyncio.sleep(0)
        self.asked.append((server, name))
        self.architectures = list(architectures)
        if (server, name) not in self.images:
            raise NotFoundError(f'{server} has no image "{name}"')
        return self.images[server, name]

    def source(self, image: RemoteImage, file: RemoteFile, *, certificate: str) -> "FakeFileSource":
        return FakeFileSource(self.files[file.digest])

    async def aclose(self) -> None:
        pass


class FakeFileSource(FakeBlobSource):
    """A file that is here."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class FakeProcess:
    """A command that has ended already."""

    pid = 4242

    def signal(self, signo: int) -> None:
        pass

    async def wait(self) -> ExitStatus:
        return ExitStatus(0, None)


class FakeConsole:
    """A console with a terminal of this host's; a test is init, on `init`."""

    def __init__(self) -> None:
        self.fd, self.init = os.openpty()
        self.sizes: list[tuple[int, int]] = []
        self.closed = False

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    def hang_up(self) -> None:
        os.close(self.init)
        self.init = -1

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self.fd)
            if self.init >= 0:
                self.hang_up()


class FakeContainer:
    """A container that ends when it is told to, or gets a signal it does not ignore."""

    monitor_pid = 4241
    init_pid = 4240
    started_at = 1.0

    def __init__(self, spec: StartSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.signals: list[int] = []
        self.ignores: set[int] = set()
        self.halts = 37
        self.ended = asyncio.Event()
        self.cleared = asyncio.Event()
        self.frozen = False
        self.disks = list(spec.disks)
        self.disk_failure: Exception | None = None
        self.limits = spec.limits
        self.status = ExitStatus(None, 9)
        self.consoles: list[FakeConsole] = []
        self.sessions: list[FakeFiles] = []

    def end(self, status: ExitStatus) -> None:
        self.status = status
        self.ended.set()
        self.cleared.set()

    def signal(self, signo: int) -> None:
        self.signals.append(signo)
        if signo not in self.ignores:
            self.end(ExitStatus(None, signo))

    def halt_signal(self) -> int:
        return self.halts

    async def init_ended(self) -> None:
        await self.ended.wait()

    async def released(self) -> ExitStatus:
        await self.cleared.wait()
        return self.status

    async def limit(self, limits: Limits) -> None:
        self.limits = limits

    async def change_disks(self, detach: Sequence[DiskSpec], attach: Sequence[DiskSpec]) -> None:
        if self.disk_failure is not None:
            raise self.disk_failure
        self.disks = [disk for disk in self.disks if disk not in detach] + list(attach)

    async def freeze(self) -> None:
        self.frozen = True

    async def unfreeze(self) -> None:
        self.frozen = False

    async def is_frozen(self) -> bool:
        return self.frozen

    async def exec(self, spec: ExecSpec, stdin: int, stdout: int, stderr: int) -> ExecProcess:
        return FakeProcess()

    async def open_terminal(self) -> tuple[int, int]:
        return os.openpty()

    async def console(self) -> FakeConsole:
        if self.consoles and not self.consoles[-1].closed:
            raise BusyError("in use")
        self.consoles.append(FakeConsole())
        return self.consoles[-1]

    async def files(self) -> FakeFiles:
        self.sessions.append(FakeFiles(Path(self.spec.directory) / "fake-root"))
        return self.sessions[-1]


class FakeContainers:
    """liblxc without containers."""

    def __init__(self) -> None:
        self.started: list[FakeContainer] = []
        self.failure: Exception | None = None
        self.starting = asyncio.Event()
        """Cleared, it holds a start up."""
        self.starting.set()
        self.running: dict[str, FakeContainer] = {}
        self.sessions: list[FakeFiles] = []
        self.exits: dict[str, ExitStatus] = {}
        """How containers ended that the next daemon finds no more."""

    async def start(self, spec: StartSpec) -> FakeContainer:
        await asyncio.sleep(0)
        await self.starting.wait()
        if self.failure is not None:
            raise self.failure
        container = FakeContainer(spec)
        self.started.append(container)
        return container

    async def adopt(self, name: str, lxc_path: str, directory: str, cgroup: str) -> FakeContainer | None:
        if self.failure is not None:
            raise self.failure
        return self.running.get(name)

    async def files(self, rootfs: StoppedRootfs) -> FakeFiles:
        self.sessions.append(FakeFiles(Path(rootfs.rw).parent / "fake-root"))
        return self.sessions[-1]

    async def last_exit(self, directory: str) -> ExitStatus | None:
        return self.exits.get(Path(directory).name)

    async def version(self) -> str:
        return "5.0.2"

    async def close(self) -> None:
        pass


@dataclass
class FakeNetworkHost:
    """A host whose bridges are a list."""

    bridges: list[BridgeSpec] = field(default_factory=list)
    removed_links: list[str] = field(default_factory=list)
    plugged: list[LinkSpec] = field(default_factory=list)
    unplugged: list[LinkSpec] = field(default_factory=list)
    failure: Exception | None = None

    async def ensure_bridge(self, bridge: BridgeSpec) -> None:
        if bridge not in self.bridges:
            self.bridges = [other for other in self.bridges if other.name != bridge.name] + [bridge]

    async def remove_bridge(self, name: str) -> None:
        self.bridges = [bridge for bridge in self.bridges if bridge.name != name]

    async def remove_link(self, name: str) -> None:
        self.removed_links.append(name)
        if self.failure is not None:
            raise self.failure

    def interfaces(self) -> list[HostInterface]:
        return [
            HostInterface(
                InterfaceUsage(name, addresses, "02:00:00:00:00:01", 1500, True, "broadcast", "", {}), kind, None
            )
            for name, kind, addresses in (
                ("eth0", "", (InterfaceAddress("inet", "192.0.2.2", 24, "global"),)),
                ("br0", "bridge", ()),
                *((bridge.name, "bridge", ()) for bridge in self.bridges),
            )
        ]

    async def plug(self, link: LinkSpec, init_pid: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.plugged.append(link)

    async def unplug(self, link: LinkSpec, init_pid: int) -> None:
        self.unplugged.append(link)


@dataclass
class FakeLeaseServer:
    """A server that remembers whom it serves."""

    served: dict[str, ServedNetwork] = field(default_factory=dict)
    hosts: dict[str, dict[str, ServedHost]] = field(default_factory=dict)
    failure: Exception | None = None

    async def serve(self, network: ServedNetwork, hosts: Callable[[], Iterable[ServedHost]]) -> None:
        if self.failure is not None:
            raise self.failure
        if self.served.get(network.bridge.name) != network:
            self.served[network.bridge.name] = network
            self.hosts[network.bridge.name] = {host.address: host for host in hosts()}

    async def add(self, network: str, host: ServedHost) -> None:
        if network in self.served:
            self.hosts[network][host.address] = host

    async def remove(self, network: str, host: ServedHost) -> None:
        if network in self.served:
            self.hosts[network].pop(host.address, None)

    async def stop(self, network: str) -> None:
        self.served.pop(network, None)
        self.hosts.pop(network, None)

    async def sweep(self, known: Iterable[str]) -> None:
        for name in set(self.served) - set(known):
            await self.stop(name)

    async def close(self) -> None:
        pass


class FakeRenderer:
    """Fills {{ instance.name }} and {{ trigger }} in, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[TemplateSource, ...], Mapping[str, Any]]] = []
        self.failure: Exception | None = None

    async def render(self, sources: Sequence[TemplateSource], context: Mapping[str, Any]) -> tuple[str, ...]:
        if self.failure is not None:
            raise self.failure
        self.asked.append((tuple(sources), context))
        values = (("{{ instance.name }}", context["instance"]["name"]), ("{{ trigger }}", context["trigger"]))
        return tuple(_filled(source.text, values) for source in sources)

    async def close(self) -> None:
        pass


def _filled(text: str, values: Sequence[tuple[str, str]]) -> str:
    for key, value in values:
        text = text.replace(key, value)
    return text


class FakeProbe:
    """Numbers that never change."""

    def usage(self, init_pid: int, cgroup: str) -> Usage:
        return NO_USAGE

    def usages(self, containers: Sequence[tuple[int, str]]) -> tuple[Usage, ...]:
        return tuple(NO_USAGE for _ in containers)
