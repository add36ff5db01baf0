"""Disk devices: the root disk, which says in what pool an instance lies, and directories and files that it shows.

type: disk, path: /, pool: default          the root disk: every instance has one
type: disk, path: P, pool: POOL, source: V  custom volume V of a pool
type: disk, path: P, source: /S             a directory or file of the host

readonly     true: nothing can be written
required     false: a missing source is no reason to fail; `optional: true` says the same in older words
recursive    true: with what is mounted below the source
shift        true: the ids on disk are the instance's own. Those of a volume are, unless it is `security.unmapped`;
             a host path's are the host's, which an unprivileged instance sees as nobody's
propagation  private
"""

from collections.abc import Mapping

from lxdpy.db.instances import Devices
from lxdpy.drivers.base import DiskSpec
from lxdpy.errors import InvalidRequestError, NotFoundError, UnsupportedError
from lxdpy.services.booleans import parse_bool
from lxdpy.services.storage import DEFAULT_POOL, StorageService, VolumeKey

ROOT = "/"
_KEYS = frozenset(
    ("type", "path", "pool", "source", "readonly", "required", "optional", "recursive", "shift", "propagation")
)
_ROOT_KEYS = frozenset(("type", "path", "pool"))
_FLAGS = ("readonly", "required", "optional", "recursive", "shift")
_UNSUPPORTED = {
    "size": "the pool has no quotas",
    "size.state": "instances have no state to save",
    "raw.mount.options": "mounts have the options that lxdpy gives them",
    "limits.read": "input and output are not limited",
    "limits.write": "input and output are not limited",
    "limits.max": "input and output are not limited",
}
_SOURCES = ("tmpfs:", "ceph:", "cephfs:", "cloud-init:config")
_PROPAGATIONS = ("", "private", "rprivate")
_MAX_PATH = 2000


def check(name: str, device: Mapping[str, str]) -> None:
    """Refuse a disk that can't be, whatever there is on this host. Raises InvalidRequestError, UnsupportedError."""
    attempt = f'Device validation failed for "{name}"'
    path = device.get("path", "")
    for key, value in device.items():
        if value and (reason := _UNSUPPORTED.get(key)):
            raise UnsupportedError(f'{attempt}: "{key}" is not supported: {reason}')
    if path == ROOT:
        if device.get("source"):
            raise InvalidRequestError(f'{attempt}: Root disk entry may not have a "source" property set')
        if not device.get("pool"):
            raise InvalidRequestError(f'{attempt}: Root disk entry must have a "pool" property set')
        _check_keys(attempt, device, _ROOT_KEYS)
        return
    _check_keys(attempt, device, _KEYS)
    if not path:
        raise InvalidRequestError(f'{attempt}: Disk entry is missing the required "path" property')
    if ".." in path.split("/") or target_of(device) == ROOT or len(path) > _MAX_PATH or not path.isprintable():
        raise InvalidRequestError(f"{attempt}: Invalid path {path!r:.200}")
    source = device.get("source", "")
    if not source:
        raise InvalidRequestError(f'{attempt}: Disk entry is missing the required "source" property')
    if source.startswith(_SOURCES):
        raise UnsupportedError(f"{attempt}: source {source!r:.100} is not supported")
    if device.get("pool"):
        if "/" in source:
            raise InvalidRequestError(f"{attempt}: Storage volumes cannot be specified as absolute paths")
    elif not source.startswith("/"):
        raise InvalidRequestError(f"{attempt}: Source path must be absolute for local sources")
    for key in _FLAGS:
        try:
            parse_bool(device.get(key, ""))
        except InvalidRequestError as exc:
            raise InvalidRequestError(f'{attempt}: Invalid value for device option "{key}": {exc}') from exc
    if device.get("propagation", "") not in _PROPAGATIONS:
        raise UnsupportedError(f"{attempt}: propagation {device['propagation']!r:.50} is not supported")


def _check_keys(attempt: str, device: Mapping[str, str], known: frozenset[str]) -> None:
    if unknown := sorted(set(device) - known):
        raise InvalidRequestError(f'{attempt}: Invalid device option "{unknown[0]:.100}"')


def check_paths(devices: Devices) -> None:
    """Refuse two disks in one place. Raises InvalidRequestError."""
    taken: set[str] = set()
    for name, device in devices.items():
        if device.get("type") == "disk":
            path = target_of(device)
            if path in taken:
                raise InvalidRequestError(
                    f'Device validation failed for "{name}": More than one disk device uses the same path "{path}"'
                )
            taken.add(path)


def check_root(devices: Devices) -> None:
    """Refuse expanded devices that say of no pool, or of one that holds no instances, that the instance lies in it.

    Raises InvalidRequestError.
    """
    root = root_of(devices)
    if root is None:
        raise InvalidRequestError("Failed detecting root disk device: No root device could be found")
    if (pool := root["pool"]) != DEFAULT_POOL:
        raise InvalidRequestError(f'Cannot use pool "{pool}" for a root disk: all instances lie in "{DEFAULT_POOL}"')


def root_of(devices: Devices) -> Mapping[str, str] | None:
    """The root disk among expanded devices."""
    return next((each for each in devices.values() if each.get("type") == "disk" and each.get("path") == ROOT), None)


def with_root(devices: Devices, expanded: Devices) -> dict[str, Mapping[str, str]]:
    """A new instance's own devices, with a root disk if neither they nor its profiles have one."""
    if root_of(expanded) is not None:
        return dict(devices)
    number = 0
    name = "root"
    while name in expanded:
        name = f"root{number}"
        number += 1
    return {**devices, name: {"type": "disk", "path": ROOT, "pool": DEFAULT_POOL}}


def shown(devices: Devices) -> dict[str, Mapping[str, str]]:
    """The disks among devices that are shown in an instance: all but the root disk."""
    return {
        name: device for name, device in devices.items() if device.get("type") == "disk" and device.get("path") != ROOT
    }


def volumes(devices: Devices, owner: str) -> list[VolumeKey]:
    """The custom volumes that devices show; `owner` is the project whose volumes are meant."""
    return [
        VolumeKey(device["pool"], owner, device["source"]) for device in shown(devices).values() if device.get("pool")
    ]


def check_sources(storage: StorageService, owner: str, before: Devices, after: Devices) -> None:
    """See that pools and volumes of devices that are new or changed exist. Raises NotFoundError."""
    for name, device in after.items():
        if device.get("type") != "disk" or before.get(name) == device or not device.get("pool"):
            continue
        try:
            storage.pool(device["pool"])
        except NotFoundError as exc:
            raise NotFoundError(f'Failed loading storage pool "{device["pool"]}": {exc}') from exc
        if device.get("path") != ROOT:
            _place(storage, owner, name, device)


def specs(storage: StorageService, owner: str, devices: Devices) -> tuple[DiskSpec, ...]:
    """What the worker is to show of devices. Raises NotFoundError for a volume that is required, and gone."""
    found: list[DiskSpec] = []
    for name, device in shown(devices).items():
        required = is_required(device)
        try:
            source, shifted = _source(storage, owner, name, device)
        except NotFoundError:
            if required:
                raise
            continue
        found.append(
            DiskSpec(
                name=name,
                source=source,
                target=target_of(device),
                readonly=parse_bool(device.get("readonly", "")),
                recursive=parse_bool(device.get("recursive", "")),
                shifted=shifted,
                required=required,
            )
        )
    return tuple(found)


def is_required(device: Mapping[str, str]) -> bool:
    """Whether a missing source is an error."""
    if device.get("required"):
        return parse_bool(device["required"])
    return not parse_bool(device.get("optional", ""))


def _source(storage: StorageService, owner: str, name: str, device: Mapping[str, str]) -> tuple[str, bool]:
    """A disk's path on the host, and whether its ids are the instance's own."""
    if not device.get("pool"):
        return device["source"], parse_bool(device.get("shift", ""))
    key = VolumeKey(device["pool"], owner, device["source"])
    place = _place(storage, owner, name, device)
    unmapped = parse_bool(storage.volumes.settings(key).config.get("security.unmapped", ""))
    return place, not unmapped


def _place(storage: StorageService, owner: str, name: str, device: Mapping[str, str]) -> str:
    key = VolumeKey(device["pool"], owner, device["source"])
    try:
        return str(storage.volumes.place(key))
    except NotFoundError as exc:
        raise NotFoundError(
            f'Failed loading storage volume "{key.name}" of pool "{key.pool}" for device "{name}": {exc}'
        ) from exc


def target_of(device: Mapping[str, str]) -> str:
    """Where a disk is in the instance."""
    return "/" + "/".join(part for part in device.get("path", "").split("/") if part not in ("", "."))


def renamed(devices: Devices, pool: str, old: str, new: str) -> dict[str, Mapping[str, str]]:
    """Devices that show a volume by its new name."""
    return {
        name: {**device, "source": new}
        if name in shown(devices) and (device.get("pool"), device["source"]) == (pool, old)
        else device
        for name, device in devices.items()
    }


def changes(before: Devices, after: Devices) -> tuple[Devices, Devices]:
    """The shown disks to take away and to show, for `before` to become `after`."""
    old, new = shown(before), shown(after)
    gone = {name: device for name, device in old.items() if new.get(name) != device}
    come = {name: device for name, device in new.items() if old.get(name) != device}
    return gone, come
