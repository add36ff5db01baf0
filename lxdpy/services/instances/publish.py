"""Images made of instances and of their snapshots.

An app keeps what it runs: its image's config goes along, with the instance's own `oci.*` keys written into it. The
instance's `environment.*` does not: it belongs to this one instance, and often holds secrets.
"""

import asyncio
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxdpy import image_metadata
from lxdpy.db.images import ImageRecord
from lxdpy.db.instances import InstanceRecord
from lxdpy.drivers.base import Compression, ImageFiles, PackSpec, Store
from lxdpy.errors import InvalidRequestError, NotFoundError
from lxdpy.image_metadata import ImageMetadata
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.progress import Progress
from lxdpy.project import plain_name
from lxdpy.services.images import ImageDetails, ImageService
from lxdpy.services.instances import metadata
from lxdpy.services.instances.directory import InstanceDirectories
from lxdpy.services.instances.process import user_of
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.snapshots import find

_PROGRESS = "create_image_from_container_pack_progress"
# Of the image it was made of, and not true of the new one.
_NOT_INHERITED = frozenset(("id", "type"))


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published, of which instance or snapshot (`INSTANCE/SNAPSHOT`), and how."""

    name: str
    is_snapshot: bool
    details: ImageDetails
    compression: Compression


class Publisher:
    """Makes images."""

    def __init__(self, roster: Roster, directories: InstanceDirectories, store: Store, images: ImageService) -> None:
        self._roster = roster
        self._directories = directories
        self._store = store
        self._images = images

    def check(self, wanted: Publication) -> None:
        """Raises NotFoundError, and InvalidRequestError when the instance runs."""
        instance, _, snapshot = wanted.name.partition("/")
        runtime = self._roster.get(instance)
        if wanted.is_snapshot:
            find(runtime, snapshot)
        elif snapshot:
            name = f"{plain_name(instance)}/{snapshot}"
            raise InvalidRequestError(f'Cannot publish "{name}": it is a snapshot, and no instance')
        elif runtime.container is not None:
            raise InvalidRequestError("Cannot export a running instance as image")

    async def publish(self, wanted: Publication, progress: Progress) -> ImageRecord:
        """Make an image of a stopped instance, which can't be started meanwhile, or of a snapshot.

        Raises NotFoundError, InvalidRequestError (it runs), ConflictError (the image, or one of its names, is here),
        NoSpaceError, WorkerError.
        """
        instance, _, snapshot = wanted.name.partition("/")
        if wanted.is_snapshot:
            record = find(self._roster.get(instance), snapshot).taken
            with self._images.garbage.pin(record.layers, record.blobs):
                files = await self._pack(instance, record, None, wanted, progress)
        else:
            async with self._roster.held(instance) as runtime:
                self.check(wanted)
                await runtime.cleared()
                record = runtime.record
                upper = self._directories.upper(instance, record.rw)
                files = await self._pack(instance, record, upper, wanted, progress)
        try:
            # Metadata has them by now, with those that came from the instance.
            return await self._images.import_files(files, wanted.details)
        finally:
            self._store.discard_files(files)

    async def _pack(
        self, instance: str, record: InstanceRecord, upper: Path | None, wanted: Publication, progress: Progress
    ) -> ImageFiles:
        await self._images.ensure_layers(record)
        directory = self._directories.path(instance)
        about = _metadata(record, await asyncio.to_thread(metadata.read, directory), wanted.details)
        config = None
        if record.config_digest is not None:
            config = committed(self._document(record.config_digest), record.config)
        spec = PackSpec(
            layers=record.layers,
            upper=upper,
            metadata=image_metadata.dump(about),
            templates=directory / image_metadata.TEMPLATES if about.templates else None,
            config=config,
            time=about.creation_date,
            compression=wanted.compression,
        )
        return await self._store.pack_image(
            spec, lambda count: progress.note({_PROGRESS: f"Image pack: {count / 1e6:.1f}MB"})
        )

    def _document(self, digest: Digest) -> bytes:
        data = self._store.read_blob(digest)
        if data is None:
            raise NotFoundError(f"Document {digest} of an image is missing from the store")
        return data


def _metadata(record: InstanceRecord, kept: ImageMetadata | None, details: ImageDetails) -> ImageMetadata:
    """What the new image says of itself: as the instance's own image did, unless the client says otherwise."""
    expiry_date = int(details.expires_at or 0)
    if kept is not None:
        properties, templates = kept.properties, kept.templates
        expiry_date = expiry_date or kept.expiry_date
    else:
        inherited = {key.removeprefix("image."): value for key, value in record.config.items() if key[:6] == "image."}
        properties = {key: value for key, value in inherited.items() if key not in _NOT_INHERITED}
        templates = {}
    return ImageMetadata(
        architecture=record.architecture,
        creation_date=int(time.time()),
        expiry_date=expiry_date,
        properties=dict(details.properties) or properties,
        templates=templates,
    )


def committed(data: bytes, config: Mapping[str, str]) -> bytes:
    """An OCI image config with an instance's `oci.*` keys written into it. Raises RegistryError for a damaged one."""
    image = ImageConfig.parse(data)
    document = json.loads(data)
    run = document["config"] = dict(document.get("config") or {})
    if entrypoint := config.get("oci.entrypoint"):
        run["Entrypoint"] = shlex.split(entrypoint)
        run["Cmd"] = shlex.split(config.get("oci.cmd", ""))
    elif "oci.cmd" in config:
        run["Cmd"] = shlex.split(config["oci.cmd"])
    if user := user_of(image, config):
        run["User"] = user
    for key, field in (("oci.cwd", "WorkingDir"), ("oci.stop_signal", "StopSignal")):
        if config.get(key):
            run[field] = config[key]
    # Its layers are one, and have no history.
    document["rootfs"] = {"type": "layers", "diff_ids": []}
    document.pop("history", None)
    return json.dumps(document).encode()
