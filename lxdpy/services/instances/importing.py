"""Instances made again of backups, those of LXD among them: every root file system in it becomes a layer of its own."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lxdpy import image_metadata
from lxdpy.db.instances import InstanceRecord
from lxdpy.db.snapshots import SnapshotRecord
from lxdpy.drivers.base import ImageFiles, Store, UnpackedBackup, upper_layer_id
from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.oci.digest import Digest
from lxdpy.project import instance_url, qualify
from lxdpy.services.events import Announce
from lxdpy.services.images import ImageService
from lxdpy.services.instances import backup_index, disks
from lxdpy.services.instances.backup_index import Described, Index
from lxdpy.services.instances.directory import InstanceDirectories, new_rw
from lxdpy.services.instances.model import CREATED
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.volatile import POWER, UUID, is_host_name, is_hwaddr
from lxdpy.services.storage import DEFAULT_POOL
from lxdpy.services.uninterrupted import uninterrupted

_OCI = "oci.json"
# What LXD notes of its own doing.
_FOREIGN = ("volatile.idmap.", "volatile.last_state.", "volatile.apply_quota", "volatile.evacuate.")


@dataclass(frozen=True, slots=True)
class NewImport:
    """A backup that is to become an instance."""

    project: str
    name: str
    """"" for the name that the backup says."""
    files: ImageFiles
    """The backup."""


Reserve = Callable[[str, Described], str]
"""Checks settings and holds a name; gives the instance's name below the API."""


class Importer:
    """Makes instances of backups."""

    def __init__(
        self,
        roster: Roster,
        directories: InstanceDirectories,
        store: Store,
        images: ImageService,
        profiles: Profiles,
        announce: Announce,
        collect: Callable[[], None],
    ) -> None:
        """`collect` has layers removed that nothing needs."""
        self._roster = roster
        self._directories = directories
        self._store = store
        self._images = images
        self._profiles = profiles
        self._collect = collect
        self._announce = announce

    async def run(self, new: NewImport, reserve: Reserve, unreserve: Callable[[str], None]) -> str:
        """Make the instance; its name below the API. What there is by then is gone when this raises.

        Raises LayerError, InvalidRequestError, UnsupportedError, NotFoundError (a profile, a pool), ConflictError (the
        name), NoSpaceError, WorkerError.
        """
        path = new.files.metadata.path
        assert path is not None
        unpacked = await self._store.unpack_backup(path)
        try:
            index = await asyncio.to_thread(_read_index, unpacked)
            name = reserve(qualify(new.project, new.name or index.instance.name), index.instance)
            try:
                with self._profiles.held(new.project, index.instance.profiles):
                    await uninterrupted(self._make(name, index, unpacked))
            finally:
                unreserve(name)
        finally:
            self._store.discard_backup(unpacked)
        self._announce("instance-created", instance_url(name), CREATED)
        return name

    async def _make(self, name: str, index: Index, unpacked: UnpackedBackup) -> None:
        place = unpacked.parts["container"]
        record = await self._record(name, index.instance, place)
        _, expanded = self._profiles.expand(record.project, record.profiles, record.config, record.devices)
        record = dataclasses.replace(record, devices=disks.with_root(record.devices, expanded))
        snapshots = []
        for described in index.snapshots:
            found = unpacked.parts.get(f"snapshots/{described.name}")
            if found is None:
                raise InvalidRequestError(f'The backup has no files of snapshot "{described.name}"')
            taken = await self._record(name, described, found)
            snapshots.append(
                (SnapshotRecord(name, described.name, described.created_at, described.expires_at, taken), found)
            )
        made = [(record, place), *((snapshot.taken, part) for snapshot, part in snapshots)]
        layers = tuple(layer for each, _ in made for layer in each.layers)
        done = False
        try:
            with self._images.garbage.pin(layers, tuple(blob for each, _ in made for blob in each.blobs)):
                for each, part in made:
                    self._store.claim(each.layers[0])
                    self._store.adopt(each.layers[0], part / "fs")
                await self._publish(record, tuple(snapshot for snapshot, _ in snapshots), place)
                done = True
        finally:
            if not done:
                # Layers that were made, and have no instance, are garbage.
                self._collect()

    async def _record(self, name: str, described: Described, place: Path) -> InstanceRecord:
        """The record of the instance, or of a snapshot, whose files are at `place`."""
        taken = {
            value for runtime in self._roster.runtimes.values() for value in _unique(runtime.record.config).values()
        }
        config = {
            key: value
            for key, value in described.config.items()
            if value and not is_host_name(key) and not key.startswith(_FOREIGN)
        }
        # The instance that was backed up may still be here.
        config = {key: value for key, value in config.items() if key not in _unique(config) or value not in taken}
        document = await asyncio.to_thread(_read_config, place)
        digest = None
        if document is not None:
            digest = Digest.of(document)
            await asyncio.to_thread(self._store.write_blob, digest, document)
        rw = new_rw()
        base = config.get("volatile.base_image", "")
        return InstanceRecord(
            name=name,
            architecture=image_metadata.canonical_architecture(described.architecture),
            description=described.description,
            ephemeral=described.ephemeral,
            config={UUID: str(uuid.uuid4()), **config, POWER: "STOPPED"},
            devices=_here(described.devices),
            profiles=described.profiles,
            created_at=described.created_at or time.time(),
            last_used_at=0.0,
            fingerprint=base if len(base) == 64 and set(base) <= set("0123456789abcdef") else "0" * 64,
            config_digest=digest,
            layers=(upper_layer_id(rw),),
            blobs=() if digest is None else (digest,),
            rw=new_rw(),
        )

    async def _publish(self, record: InstanceRecord, snapshots: tuple[SnapshotRecord, ...], place: Path) -> None:
        """The directory comes before the rows."""
        fresh = self._directories.temporary()
        kept = place if (place / image_metadata.FILE).exists() and record.config_digest is None else None
        await asyncio.to_thread(self._directories.draft, fresh, record.name, record.rw, kept)
        try:
            await asyncio.to_thread(self._fill, record, fresh)
            await self._store.sync()
            await asyncio.to_thread(self._directories.publish, record.name, fresh)
        except BaseException:
            await asyncio.to_thread(self._directories.scrap, fresh)
            raise
        try:
            await self._roster.add(Runtime(record, snapshots))
        except BaseException:
            if trash := self._directories.discard(record.name):
                await asyncio.to_thread(self._directories.remove, trash)
            raise

    def _fill(self, record: InstanceRecord, fresh: Path) -> None:
        upper = fresh / record.rw / "upper"
        upper.mkdir()
        upper.chmod(0o755)
        self._store.copy_root(record.layers[0], upper)


def _unique(config: Mapping[str, str]) -> dict[str, str]:
    """What no two instances of a host may have: addresses of NICs, and the id."""
    return {key: value for key, value in config.items() if is_hwaddr(key) or key == UUID}


def _here(devices: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Devices with the root disk in the pool where all instances lie."""
    return {
        name: {"type": "disk", "path": disks.ROOT, "pool": DEFAULT_POOL}
        if device.get("type") == "disk" and device.get("path") == disks.ROOT
        else device
        for name, device in devices.items()
    }


def settings_of(described: Described) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
    """Configuration and devices of an instance that is to be made, for whoever checks them."""
    config = {key: value for key, value in described.config.items() if value and not key.startswith(_FOREIGN)}
    return config, _here(described.devices)


def _read_index(unpacked: UnpackedBackup) -> Index:
    try:
        return backup_index.parse((unpacked.directory / "index.yaml").read_bytes())
    except OSError as exc:
        raise WorkerError(f"Cannot read the index of a backup: {exc}") from exc


def _read_config(place: Path) -> bytes | None:
    """How an app runs; None of a system."""
    try:
        return (place / _OCI).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise WorkerError(f"Cannot read {_OCI} of a backup: {exc}") from exc
