"""What services need of the outside world: the Protocols that drivers implement, and the types that cross them.

registry       resolve a reference to a manifest and its config; say where blobs are
image_servers  the same for images of simplestreams servers
store          blobs and unpacked layers on this host's disk; layers: what it holds
volumes        trees of files outside of the store
containers     liblxc, through the lifecycle worker; files: those of an instance
templates      templates of images, through the template worker
network        bridges, firewall rules, containers' interfaces; DHCP and DNS
probe          numbers of running containers and of interfaces, read from cgroup files and /proc
"""

from lxdpy.drivers.base.containers import (
    BindFile,
    Console,
    Containers,
    DiskSpec,
    ExecProcess,
    ExecSpec,
    ExitStatus,
    IdMap,
    Limits,
    RunningContainer,
    StartSpec,
    TemplateFile,
)
from lxdpy.drivers.base.files import (
    FileAttributes,
    FileKind,
    FileSession,
    FileStatus,
    FoundFile,
    StoppedRootfs,
    WritableFile,
)
from lxdpy.drivers.base.image_servers import (
    ImageServers,
    RemoteFile,
    RemoteImage,
)
from lxdpy.drivers.base.layers import (
    BackupPartSpec,
    BackupSpec,
    Collected,
    Compression,
    ImageFile,
    ImageFiles,
    LayerRequest,
    LowerMount,
    PackSpec,
    StoredLayer,
    UnpackedBackup,
    image_layer_id,
    is_upper_layer,
    rw_of,
    upper_layer_id,
)
from lxdpy.drivers.base.network import (
    BridgeSpec,
    LeaseServer,
    LinkSpec,
    NetworkHost,
    ServedHost,
    ServedNetwork,
)
from lxdpy.drivers.base.probe import (
    BridgeState,
    HostInterface,
    InterfaceAddress,
    InterfaceUsage,
    Probe,
    Usage,
)
from lxdpy.drivers.base.registry import (
    BlobEndpoint,
    BlobSource,
    Registry,
    ResolvedImage,
)
from lxdpy.drivers.base.store import (
    Incoming,
    Store,
)
from lxdpy.drivers.base.templates import (
    Renderer,
    TemplateSource,
)
from lxdpy.drivers.base.volumes import (
    VolumeTrees,
)

__all__ = [
    "BackupPartSpec",
    "BackupSpec",
    "BindFile",
    "BlobEndpoint",
    "BlobSource",
    "BridgeSpec",
    "BridgeState",
    "Collected",
    "Compression",
    "Console",
    "Containers",
    "DiskSpec",
    "ExecProcess",
    "ExecSpec",
    "ExitStatus",
    "FileAttributes",
    "FileKind",
    "FileSession",
    "FileStatus",
    "FoundFile",
    "HostInterface",
    "IdMap",
    "ImageFile",
    "ImageFiles",
    "ImageServers",
    "Incoming",
    "InterfaceAddress",
    "InterfaceUsage",
    "LayerRequest",
    "LeaseServer",
    "Limits",
    "LinkSpec",
    "LowerMount",
    "NetworkHost",
    "PackSpec",
    "Probe",
    "Registry",
    "RemoteFile",
    "RemoteImage",
    "Renderer",
    "ResolvedImage",
    "RunningContainer",
    "ServedHost",
    "ServedNetwork",
    "StartSpec",
    "StoppedRootfs",
    "Store",
    "StoredLayer",
    "TemplateFile",
    "TemplateSource",
    "UnpackedBackup",
    "Usage",
    "VolumeTrees",
    "WritableFile",
    "image_layer_id",
    "is_upper_layer",
    "rw_of",
    "upper_layer_id",
]
