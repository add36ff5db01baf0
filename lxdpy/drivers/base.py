"""What services need of the outside world: the Protocols that drivers implement, and the types that cross them.

registry    resolve a reference to a manifest and its config; say where blobs are
store       blobs and unpacked layers on this host's disk
containers  liblxc, through the lifecycle worker
renderer    templates of images, through the template worker
network     bridges, firewall rules, containers' interfaces; DHCP and DNS
probe       numbers of a running container, read from cgroup files and /proc
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.manifest import Manifest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from lxdpy.progress import Progress

# ---------------------------------------------------------------- registry


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """One image of one platform, verified down to its config; no layer is fetched yet."""

    reference: Reference
    endpoint: str
    """Base URL of the registry or mirror that answered, e.g. `https://registry-1.docker.io`."""
    manifest_digest: Digest
    manifest_bytes: bytes
    manifest: Manifest
    config_bytes: bytes
    config: ImageConfig
    index_digest: Digest | None = None
    index_bytes: bytes | None = None


@dataclass(frozen=True, slots=True)
class BlobEndpoint:
    """One URL that serves a blob, and how to speak with its host. Crosses to workers as JSON."""

    url: str
    headers: Mapping[str, str]
    verify: bool = True
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    ca_data: str | None = None
    """PEM certificates to trust instead of the system's."""


class BlobSource(Protocol):
    """Where one blob can be fetched: mirrors first, the origin last."""

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        """The URLs to try in order, with headers that are good now. Raises RegistryError, AccessDeniedError."""

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        """The same endpoint with fresh credentials, after a 401 with these WWW-Authenticate values.

        Raises AccessDeniedError when there are none to be had.
        """


class Registry(Protocol):
    """Client of every registry that speaks the OCI distribution protocol."""

    async def resolve(
        self, reference: Reference, platform: Platform, *, cached: Callable[[Digest], bytes | None]
    ) -> ResolvedImage:
        """Follow `reference` to a manifest and config of `platform`.

        `cached` gives documents this host has already, by digest: they are not fetched again. Raises NotFoundError
        (naming the registry asked), AccessDeniedError, RegistryError, DigestMismatchError, InvalidRequestError.
        """

    def blob_source(self, image: ResolvedImage, blob: Descriptor) -> BlobSource:
        """Where a blob of `image` can be fetched."""

    async def aclose(self) -> None:
        """Close connections."""


# ----------------------------------------------------------- image servers


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of an image on an image server; `path` is below the server's URL."""

    path: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that an image server has."""

    server: str
    fingerprint: str
    files: tuple[RemoteFile, ...]
    """One that holds everything, or metadata and root file system."""
    created_at: float
    expires_at: float
    """When its release ends; 0: not known."""
    properties: Mapping[str, str]
    filename: str


class ImageServers(Protocol):
    """Client of image servers that speak simplestreams."""

    async def find(
        self, server: str, name: str, *, architectures: Sequence[tuple[str, str]], certificate: str
    ) -> RemoteImage:
        """The image that `name`, an alias or a fingerprint, means on `server`.

        `architectures`: those that will do, the wanted one first, as (LXD's name, Debian's name). `certificate`: PEM,
        trusted instead of the system's. Raises NotFoundError, RegistryError, InvalidRequestError.
        """

    def source(self, image: RemoteImage, file: RemoteFile, *, certificate: str) -> BlobSource:
        """Where a file of an image can be fetched."""


# ------------------------------------------------------------------- store


@dataclass(frozen=True, slots=True)
class LowerMount:
    """How the overlay driver gets at one layer: made by the store, opaque to all but drivers.overlay."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer in the store, unpacked."""

    id: str
    diff_id: Digest | None
    """None: it came from no image, but was an instance's upper directory."""
    size_bytes: int
    """Sum of the files' sizes; 0 of what was an upper directory, which nobody counted."""
    entries: int


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """A layer that an image wants: blob, diff_id and where to fetch it (None: only from the local blob)."""

    descriptor: Descriptor
    diff_id: Digest
    source: BlobSource | None


def image_layer_id(fingerprint: str) -> str:
    """The id of an LXD image's one layer."""
    return f"i-{fingerprint}"


_UPPER, _RW = "s-", "rw-"


def upper_layer_id(rw: str) -> str:
    """The id of the layer that the upper directory of the writable layer `rw` becomes."""
    return _UPPER + rw.removeprefix(_RW)


def is_upper_layer(layer_id: str) -> bool:
    """Whether a layer was an upper directory."""
    return layer_id.startswith(_UPPER)


def rw_of(layer_id: str) -> str:
    """The writable layer whose upper directory became this layer."""
    return _RW + layer_id.removeprefix(_UPPER)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file of an LXD image."""

    digest: Digest
    size: int
    path: Path | None = None
    """Where it is, on the store's file system, from where it will be moved; None: it is a blob of the store already."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The one file or two files of an LXD image."""

    fingerprint: str
    """Hex of the SHA-256 of the file, or of both, one after the other."""
    metadata: ImageFile
    """The file that holds everything, or everything but the root file system."""
    rootfs: ImageFile | None = None

    @property
    def all(self) -> tuple[ImageFile, ...]:
        """The files in the fingerprint's order."""
        return (self.metadata,) if self.rootfs is None else (self.metadata, self.rootfs)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.all)


@dataclass(frozen=True, slots=True)
class Compression:
    """How a file is compressed: none, gzip, bzip2, xz, lzma, zstd or squashfs, and how hard (None: as it does)."""

    name: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class PackSpec:
    """An LXD image to be made of an instance that nobody writes to meanwhile."""

    layers: tuple[str, ...]
    """Base first."""
    upper: Path | None
    """The directory of its topmost layer, which is not the store's; None when there is none."""
    metadata: bytes
    """metadata.yaml."""
    templates: Path | None
    """A directory of plain files."""
    config: bytes | None
    """An OCI image config, when it is an app."""
    time: int
    compression: Compression


@dataclass(frozen=True, slots=True)
class BackupPartSpec:
    """An instance, or one of its snapshots, to be packed; nobody writes to it meanwhile."""

    name: str
    """`container`, or `snapshots/NAME`."""
    layers: tuple[str, ...]
    """Base first."""
    upper: Path | None
    """The directory of its topmost layer, which is not the store's; None when there is none."""
    texts: tuple[tuple[str, str], ...]
    """Files beside the root file system: name and content."""
    templates: Path | None
    """A directory of plain files."""
    bare: bool = False
    """A volume, or a snapshot of one (`volume`, `volume-snapshots/NAME`): its files, and nothing beside them."""


@dataclass(frozen=True, slots=True)
class BackupSpec:
    """A backup to be made: an index, and the parts in the order in which they come."""

    index: str
    parts: tuple[BackupPartSpec, ...]
    time: int
    compression: Compression


@dataclass(frozen=True, slots=True)
class UnpackedBackup:
    """A backup in a directory of the store's: index.yaml; and for each part, by its name in the backup, a directory
    with `fs`, the root file system, and what was beside it."""

    directory: Path
    parts: Mapping[str, Path]


class Incoming(Protocol):
    """The files of an LXD image on their way into the store: written in order, and hashed meanwhile."""

    async def write(self, data: bytes) -> None:
        """Add to the current file. Raises NoSpaceError, WorkerError."""

    async def next_file(self) -> None:
        """The first file is whole, and a second one begins. Raises InvalidRequestError when it had begun before."""

    async def finish(self) -> ImageFiles:
        """All is here, and on disk; `discard` it, or have it imported. Raises NoSpaceError, WorkerError,
        InvalidRequestError when nothing has come."""

    def discard(self) -> None:
        """Remove what no import has taken."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection removed."""

    layers: int
    blobs: int
    size_bytes: int


class Store(Protocol):
    """Content-addressed blobs and unpacked layers."""

    def read_blob(self, digest: Digest) -> bytes | None:
        """A document's bytes (manifest, index, config; at most 4 MiB), verified; None if absent."""

    def write_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a document. Raises DigestMismatchError, NoSpaceError."""

    def write_index(self, manifests: Sequence[tuple[str, Descriptor]]) -> None:
        """Say under which names (name, manifest) the blobs are to be found: the index.json of the OCI image layout that
        the store is (image-spec, image-layout.md). Raises NoSpaceError, WorkerError."""

    async def wake(self) -> None:
        """A pull is about to come: start what it takes, while its image is still being resolved. Raises WorkerError."""

    async def materialize(self, layers: Sequence[LayerRequest], progress: Progress) -> tuple[StoredLayer, ...]:
        """Make every layer of one image present and unpacked; base first, as in the manifest.

        Missing blobs are fetched and unpacked in parallel, one process per layer; two callers that want the same layer
        share one job. The layers returned, and their blobs, can't be collected before `release` is called with the
        same layers' ids. Raises RegistryError, DigestMismatchError, AccessDeniedError, LayerError, NoSpaceError,
        WorkerError.
        """

    def receive(self) -> Incoming:
        """Begin to receive an LXD image."""

    async def pack_image(self, spec: PackSpec, progress: Callable[[int], None]) -> ImageFiles:
        """Make an LXD image, to be imported, and `discard_files` in any case; `progress` is called with the bytes that
        are in. Raises NotFoundError (a layer is gone), UnsupportedError, LayerError, NoSpaceError, WorkerError."""

    async def pack_backup(self, spec: BackupSpec, progress: Callable[[int], None]) -> ImageFile:
        """Pack a backup; `progress` is called with bytes. The file is the caller's, who moves it away or unlinks it.

        Raises UnsupportedError (the compression), LayerError, NotFoundError (a layer), NoSpaceError, WorkerError.
        """

    async def unpack_backup(self, path: Path, *, volume: bool = False) -> UnpackedBackup:
        """Unpack a backup, of an instance or a volume, of whoever it is.

        Raises LayerError, UnsupportedError, NoSpaceError, WorkerError.
        """

    def discard_backup(self, backup: UnpackedBackup) -> None:
        """Remove what `unpack_backup` has made, and nobody has taken."""

    def discard_files(self, files: ImageFiles) -> None:
        """Remove what no import has taken."""

    async def fetch_file(
        self, digest: Digest, size: int, source: BlobSource, progress: Callable[[int], None]
    ) -> ImageFile:
        """Fetch a file of an LXD image, unless it is a blob here; `progress` hears how many bytes are in.

        Resumed where an earlier try broke off. The caller keeps the blob from collection. Raises RegistryError,
        DigestMismatchError, AccessDeniedError, NoSpaceError, WorkerError.
        """

    def image_file(self, digest: Digest) -> ImageFile:
        """A file of an LXD image that is a blob here. Raises NotFoundError."""

    def open_blob(self, digest: Digest) -> tuple[BinaryIO, int]:
        """A blob, open for reading, and its size; it can be read even when it is collected. Raises NotFoundError."""

    async def unpack_image(self, files: ImageFiles) -> StoredLayer:
        """Unpack an LXD image, unless it is, and keep its files as blobs once they have proved to be what they should.

        The layer and the blobs can't be collected before `release` is called with the layer's id. Raises LayerError
        (it is no image, or over a limit), DigestMismatchError, UnsupportedError, NotFoundError (a blob is gone),
        NoSpaceError, WorkerError.
        """

    def release(self, layer_ids: Sequence[str]) -> None:
        """End the protection that `materialize` or `unpack_image` gave: the database refers to the layers by now, or
        never will."""

    def lower_mounts(self, layer_ids: Sequence[str]) -> tuple[LowerMount, ...]:
        """How to mount these layers, in the order given. Raises NotFoundError."""

    def image_directory(self, fingerprint: str) -> Path:
        """Where metadata.yaml and templates/ of an LXD image are while its layer is here. Raises NotFoundError."""

    def layer(self, layer_id: str) -> StoredLayer | None:
        """One layer, if it is whole."""

    def claim(self, layer_id: str) -> None:
        """Make room for a layer that `adopt` is about to bring, so that only a rename is left to do.

        The caller keeps it from collection. Raises NoSpaceError, WorkerError.
        """

    def adopt(self, layer_id: str, directory: Path) -> StoredLayer:
        """Make an upper directory, which no mount uses, the layer that was claimed, by one rename. It can't be rebuilt.

        Raises WorkerError.
        """

    def copy_root(self, layer_id: str, directory: Path) -> None:
        """Give a directory owner, mode and attributes of a layer's root. Raises NotFoundError, WorkerError."""

    def adds_nothing(self, layer_id: str, directory: Path) -> bool:
        """Whether an upper directory shows nothing but what the layer right below it does. Raises NotFoundError,
        WorkerError."""

    async def copy_directory(self, source: Path, target: Path) -> None:
        """Make `target` a copy of an upper directory, down to hard links, whiteouts and extended attributes. Data is
        shared where the file system can. What there is of it after a failure is the caller's to remove.

        Raises NoSpaceError, WorkerError.
        """

    async def sync(self) -> None:
        """Have on disk what was written so far: what is named in the database after this is whole after a power cut.

        Raises WorkerError.
        """

    async def collect(self, keep_layers: set[str], keep_blobs: set[Digest]) -> Collected:
        """Remove layers and blobs that are neither in `keep_*` nor in use by a running job.

        What goes is gone for everybody before the first pause: `keep_*` can't be out of date.
        """

    async def close(self) -> None:
        """Cancel running jobs and end the workers."""


# ----------------------------------------------------------------- volumes


class VolumeTrees(Protocol):
    """Trees of files on this host's disks, handled outside of the daemon's process."""

    async def copy(self, source: Path, target: Path) -> None:
        """Copy a tree, which somebody may be writing to, with all its attributes to `target`, which must not exist.

        Nothing writes to `target` any more when this returns or raises. Raises NoSpaceError, WorkerError.
        """

    async def usage(self, path: Path) -> int:
        """Bytes that a tree takes on its disk. Raises WorkerError."""


# -------------------------------------------------------------- containers


@dataclass(frozen=True, slots=True)
class IdMap:
    """Container ids 0..size-1 are host ids base..base+size-1, for users and groups alike."""

    base: int
    size: int


@dataclass(frozen=True, slots=True)
class BindFile:
    """A host file shown in the container, e.g. resolv.conf. `target` is absolute in the rootfs."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A file of the instance's own layer, written before its start. `target` is absolute in the rootfs."""

    target: str
    text: str
    create_only: bool
    """Leave a file that is there as it is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the host a container may use; what is not given is not limited."""

    cpu_count: int | None = None
    """So many CPUs, whichever."""
    cpus: tuple[int, ...] = ()
    """Just these CPUs."""
    cpu_percent: int | None = None
    """Its share against others' when CPUs are scarce, of 100."""
    cpu_quota_ms: tuple[int, int] | None = None
    """At most so many milliseconds in each period of so many."""
    memory_bytes: int | None = None
    memory_soft: bool = False
    """Memory may exceed its limit while the host has enough."""
    swap: bool = True
    """Whether its memory may be swapped out."""
    processes: int | None = None
    """Processes and threads."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A directory or file of this host, shown in a container."""

    name: str
    """The device's."""
    source: str
    target: str
    """Absolute in the rootfs; made there if missing."""
    readonly: bool = False
    recursive: bool = False
    """With what is mounted below the source."""
    shifted: bool = False
    """Its ids on disk are the container's own; else the host's, whatever the container makes of these."""
    required: bool = True
    """A missing source is an error."""


@dataclass(frozen=True, slots=True)
class StartSpec:
    """Everything a start child needs to start one container."""

    name: str
    lxc_path: str
    """liblxc's lxcpath: with `name` it names the monitor's command socket."""
    directory: str
    """The instance's directory: holds RW/{upper,work}; gets rootfs, exit, console.log, lxc.log."""
    rw: str
    """Name of the writable layer's directory in there."""
    lowers: tuple[LowerMount, ...]
    """Topmost first."""
    idmap: IdMap | None
    """None: privileged."""
    cgroup: str
    """Path below each cgroup hierarchy's root, e.g. `lxdpy-1a2b/web`."""
    items: tuple[tuple[str, str], ...]
    """liblxc configuration items in order; list keys may repeat. Never holds NUL or line breaks."""
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    user: str
    """`uid`, `name`, `uid:gid`, `name:group` ...; looked up in the rootfs's /etc/passwd and /etc/group. "" is root."""
    cwd: str
    init: bool
    """Run lxc-init as PID 1, which reaps, instead of argv itself."""
    files: tuple[BindFile, ...] = ()
    disks: tuple[DiskSpec, ...] = ()
    system: bool = False
    """argv is the init of a distribution: its environment is `environment` alone, and it may halt and reboot."""
    templates: tuple[TemplateFile, ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a container's init, or an exec'd process, ended: exactly one is set."""

    code: int | None
    signal: int | None

    @property
    def shell_code(self) -> int:
        """The exit code as a shell would give it: 128 + n for signal n."""
        if self.code is not None:
            return self.code
        return 128 + (self.signal or 0)


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command to run in a running container."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    """The whole environment: nothing is inherited. HOME is added from /etc/passwd when absent."""
    uid: int | None = None
    gid: int | None = None
    user: str = ""
    """Used when `uid` is None; as in StartSpec."""
    cwd: str = ""
    """"" is the user's home, or / when there is none."""
    terminal: bool = False
    """stdin is a pty slave that becomes the controlling terminal of a new session."""


class FileKind(StrEnum):
    """What can be had of an instance's files, in LXD's words."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is at a path; ids are the container's."""

    kind: str
    """A FileKind, or a word for something that can't be read: `device`, `socket`, `named pipe`."""
    uid: int
    gid: int
    mode: int
    """Permissions, setuid and the like; without the kind."""
    size_bytes: int
    modified_ns: int
    """Since the epoch."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What is at a path, and what is in it: exactly one of the three is set."""

    status: FileStatus
    fd: int | None = None
    """A file, open for reading; the caller closes it."""
    names: tuple[str, ...] | None = None
    """A directory's entries, sorted; bytes that are no UTF-8 are surrogates."""
    target: str | None = None
    """Where a link leads, as it is written in the link."""


@dataclass(frozen=True, slots=True)
class WritableFile:
    """A file open for writing, and whether it was made just now; the caller closes it."""

    fd: int
    new: bool


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """What a new file gets; None: container root's, and the usual mode. One that is there keeps what it has, except for
    what `modify` lists."""

    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    modify: frozenset[str] = frozenset()
    """Of `uid`, `gid` and `mode`."""
    modified_ns: int | None = None
    """For directories and links, also for those that are there."""


class FileSession(Protocol):
    """The files of one instance, while it lasts. Paths begin at the container's root and never lead out of it.

    Every method raises NotFoundError, ConflictError (exists), InvalidRequestError (is a directory, is not empty),
    UnsupportedError, AccessDeniedError, NoSpaceError, and WorkerError, also when the session was closed meanwhile.
    """

    @property
    def closed(self) -> bool:
        """Whether it has ended, by `close` or because its process did."""

    async def status(self, path: str) -> FileStatus:
        """What is at a path; links are not followed at its end."""

    async def open(self, path: str) -> FoundFile:
        """What is at a path, and what is in it; links are not followed at its end."""

    async def write(self, path: str, attributes: FileAttributes, *, append: bool) -> WritableFile:
        """A new or emptied file, or to `append`, one that is there."""

    async def make_directory(self, path: str, attributes: FileAttributes) -> None:
        """Make a directory, if there is none."""

    async def make_symlink(self, path: str, target: str, attributes: FileAttributes) -> None:
        """Make a symbolic link, if the same one is not there."""

    async def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""

    async def close(self) -> None:
        """End it; when this returns, nothing of the instance's root file system is held or mounted for it."""


@dataclass(frozen=True, slots=True)
class StoppedRootfs:
    """Where the root file system of an instance is that does not run."""

    name: str
    lowers: tuple[LowerMount, ...]
    """Topmost first."""
    rw: str
    """The directory that has `upper` and `work`."""
    scratch: str
    """An empty directory."""


class Console(Protocol):
    """The terminal of a container's init, held by whoever got it, and nobody else meanwhile."""

    @property
    def fd(self) -> int:
        """What init prints can be read here, and what is written is its input. Closed by `close`."""

    async def resize(self, width: int, height: int) -> None:
        """Tell init's terminal its size."""

    def close(self) -> None:
        """Let others have it; nothing happens when it is closed."""


class ExecProcess(Protocol):
    """A command that runs in a container."""

    @property
    def pid(self) -> int:
        """Its pid on the host."""

    def signal(self, signo: int) -> None:
        """Send a signal; nothing happens when it has ended."""

    async def wait(self) -> ExitStatus:
        """Wait for its end. Code 126: not executable; 127: not found. Raises WorkerError when the worker died."""


class RunningContainer(Protocol):
    """A container whose init runs, or has just ended."""

    @property
    def name(self) -> str: ...

    @property
    def init_pid(self) -> int: ...

    @property
    def monitor_pid(self) -> int: ...

    @property
    def started_at(self) -> float:
        """Seconds since the epoch."""

    def signal(self, signo: int) -> None:
        """Send a signal to init (pidfd). Nothing happens when it has ended."""

    def halt_signal(self) -> int:
        """The signal that has this init halt the system, as far as it has shown yet which it is: SIGRTMIN+3 for
        systemd, else SIGPWR."""

    async def init_ended(self) -> None:
        """Wait until init has ended. May be awaited by many; returns at once ever after."""

    async def released(self) -> ExitStatus:
        """Wait until the monitor has ended too: mounts, veth and cgroups are gone and the exit status is known."""

    async def limit(self, limits: Limits) -> None:
        """Set what it may use from now on. Raises ConflictError when it uses more, InvalidRequestError for a CPU that
        is not there, UnsupportedError for what this host can't limit, WorkerError."""

    async def change_disks(self, detach: Sequence[DiskSpec], attach: Sequence[DiskSpec]) -> None:
        """Take disks away and show others. Raises InvalidRequestError, ConflictError, WorkerError; all is as before
        then."""

    async def freeze(self) -> None:
        """Freeze every process."""

    async def unfreeze(self) -> None:
        """Thaw."""

    async def is_frozen(self) -> bool:
        """Whether the container is frozen."""

    async def exec(self, spec: ExecSpec, stdin: int, stdout: int, stderr: int) -> ExecProcess:
        """Run a command on these file descriptors, which the caller closes. Raises WorkerError, ConflictError."""

    async def open_terminal(self) -> tuple[int, int]:
        """Master and slave of a new pty for a command: one of the container's, so that it has a name there. The caller
        closes both. Raises WorkerError, ConflictError."""

    async def console(self) -> Console:
        """The console. Raises BusyError when it is taken, ConflictError, WorkerError."""

    async def files(self) -> FileSession:
        """A session on its files, for as long as it runs. Raises ConflictError, WorkerError."""


class Containers(Protocol):
    """liblxc."""

    async def start(self, spec: StartSpec) -> RunningContainer:
        """Start and wait until it runs. Raises InvalidRequestError (entrypoint, user or cwd that can't be, naming it),
        ConflictError (runs already), WorkerError; leaves nothing behind when it raises."""

    async def adopt(self, name: str, lxc_path: str, directory: str, cgroup: str) -> RunningContainer | None:
        """The container as an earlier daemon left it, or None when it does not run; clears what a dead one left."""

    async def files(self, rootfs: StoppedRootfs) -> FileSession:
        """A session on the files of a container that does not run. It must be closed before the container is started,
        or its layers are used in another way. Raises WorkerError."""

    async def last_exit(self, directory: str) -> ExitStatus | None:
        """The exit status that the last monitor wrote, if any."""

    async def version(self) -> str:
        """liblxc's version."""

    async def close(self) -> None:
        """End the worker; containers go on."""


# --------------------------------------------------------------- templates


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template of an image, as it came: nobody vouches for it."""

    target: str
    """The file that it makes."""
    name: str
    text: str
    properties: Mapping[str, str]


class Renderer(Protocol):
    """Renders templates."""

    async def render(self, sources: Sequence[TemplateSource], context: Mapping[str, object]) -> tuple[str, ...]:
        """The text of each template. `context` holds JSON. Raises InvalidRequestError, naming the template."""

    async def close(self) -> None:
        """End the workers."""


# ----------------------------------------------------------------- network


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A managed bridge: addresses are the gateway's, with prefix (`10.76.0.1/16`); "" is none."""

    name: str
    ipv4_address: str = ""
    ipv4_nat: bool = True
    ipv6_address: str = ""
    ipv6_nat: bool = False
    mtu: int = 0
    """0: the kernel's default."""
    hwaddr: str = ""
    """"": a random one when it is made, which it keeps."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A NIC to put into a container that runs."""

    kind: str
    """`veth` or `macvlan`."""
    host_name: str
    """Of a veth's host end."""
    parent: str
    """Bridge of a veth, "" for none; interface below a macvlan."""
    name: str
    hwaddr: str
    mtu: int
    addresses: tuple[str, ...]
    """With prefix."""
    gateways: tuple[str, ...]
    """Of default routes to add."""


class NetworkHost(Protocol):
    """Bridges, firewall rules and interfaces of this host."""

    async def ensure_bridge(self, bridge: BridgeSpec) -> None:
        """Make bridge, addresses, forwarding and NAT rules as wanted; idempotent. Raises ConflictError, WorkerError."""

    async def remove_bridge(self, name: str) -> None:
        """Remove bridge and rules; a missing one is fine."""

    async def remove_link(self, name: str) -> None:
        """Remove an interface that a dead container left; a missing one is fine."""

    def interfaces(self) -> list["HostInterface"]:
        """The host's interfaces. Raises WorkerError."""

    async def plug(self, link: LinkSpec, init_pid: int) -> None:
        """Put a NIC into the network namespace of a container's init, up and with its addresses.

        Raises ConflictError (a name is taken), NotFoundError (no such parent), WorkerError; nothing is left then.
        """

    async def unplug(self, link: LinkSpec, init_pid: int) -> None:
        """Take it out again; one that is not there is fine. Raises WorkerError."""


@dataclass(frozen=True, slots=True)
class ServedNetwork:
    """What clients on one bridge are served: addresses by DHCP, names by DNS."""

    bridge: BridgeSpec
    ipv4_dhcp: bool
    ipv4_expiry: str
    """dnsmasq's spelling: `1h`."""
    ipv6_dhcp: bool
    dns: str
    """`managed`: hosts' names are ours to say; `dynamic`: theirs; `none`: there are no names."""
    domain: str
    search: str
    """Domains, separated by commas, that DHCP tells clients to search; "" for `domain`."""


@dataclass(frozen=True, slots=True)
class ServedHost:
    """A NIC that is given an address and has a name."""

    hwaddr: str
    address: str
    name: str


class LeaseServer(Protocol):
    """DHCP and DNS on managed bridges. Goes on while no daemon runs; the next one takes it over."""

    async def serve(self, network: ServedNetwork, hosts: Callable[[], Iterable[ServedHost]]) -> None:
        """Have one network served as wanted, its bridge being there; cheap when it is already.

        `hosts` gives all that are served. What dies is started again until `stop`. Raises WorkerError.
        """

    async def add(self, network: str, host: ServedHost) -> None:
        """Serve one more host, if the network is served. Raises WorkerError."""

    async def remove(self, network: str, host: ServedHost) -> None:
        """Serve a host no more, and free its address."""

    async def stop(self, network: str) -> None:
        """Serve a network no more; one that is not served is fine."""

    async def sweep(self, known: Iterable[str]) -> None:
        """Stop what an earlier daemon left of networks that are none of `known`."""

    async def close(self) -> None:
        """Look no more after what runs; it goes on."""


# ------------------------------------------------------------------- probe


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of an interface. family: inet or inet6; scope: global, link or local."""

    family: str
    address: str
    prefix: int
    scope: str


@dataclass(frozen=True, slots=True)
class InterfaceUsage:
    """One network interface of a container."""

    name: str
    addresses: tuple[InterfaceAddress, ...]
    hwaddr: str
    mtu: int
    up: bool
    kind: str
    """`broadcast`, `loopback` or `point-to-point`."""
    host_name: str
    counters: Mapping[str, int]
    """bytes_received, bytes_sent, packets_received, packets_sent, errors_received, errors_sent,
    packets_dropped_inbound, packets_dropped_outbound."""


@dataclass(frozen=True, slots=True)
class BridgeState:
    """What only bridges have."""

    id: str
    stp: bool
    forward_delay: int
    """In hundredths of a second."""
    vlan_default: int
    vlan_filtering: bool
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostInterface:
    """A network interface of this host."""

    usage: InterfaceUsage
    driver: str
    """The kernel's word: `bridge`, `vlan`, `bond`, `macvlan`, ...; "" for hardware and loopback."""
    bridge: BridgeState | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of a running container at one moment."""

    processes: int
    cpu_ns: int
    memory_bytes: int
    memory_peak_bytes: int
    memory_limit_bytes: int | None
    swap_bytes: int
    swap_peak_bytes: int
    interfaces: tuple[InterfaceUsage, ...] = field(default=())


class Probe(Protocol):
    """Reads the numbers of a running container without forking; fast enough for hundreds."""

    def usage(self, init_pid: int, cgroup: str) -> Usage:
        """Read now. `cgroup` as in StartSpec. Numbers that are gone because the container just ended read as 0."""

    def usages(self, containers: Sequence[tuple[int, str]]) -> tuple[Usage, ...]:
        """Read many, each given as (init_pid, cgroup), in the order given: cheaper than one by one."""
