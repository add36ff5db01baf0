"""Instances made of images."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from lxdpy.db.images import ImageRecord
from lxdpy.db.instances import InstanceRecord
from lxdpy.project import instance_url, project_of
from lxdpy.services.events import Announce
from lxdpy.services.images import ImageService
from lxdpy.services.instances import disks, settings
from lxdpy.services.instances.directory import InstanceDirectories, new_rw
from lxdpy.services.instances.model import CREATED, NewInstance
from lxdpy.services.instances.profiles import Profiles
from lxdpy.services.instances.roster import Roster
from lxdpy.services.instances.runtime import Runtime
from lxdpy.services.instances.templates import APPLY, new_instance_id
from lxdpy.services.instances.volatile import POWER, is_host_name


class Maker:
    """Makes instances of images that are here."""

    def __init__(
        self,
        roster: Roster,
        directories: InstanceDirectories,
        images: ImageService,
        profiles: Profiles,
        announce: Announce,
        spawn: Callable[[Coroutine[Any, Any, object]], None],
    ) -> None:
        self._roster = roster
        self._directories = directories
        self._images = images
        self._profiles = profiles
        self._announce = announce
        self._spawn = spawn

    def with_profiles(self, new: NewInstance, image: ImageRecord) -> NewInstance:
        """The request with the profiles that its image names, if they are not its own. Raises NotFoundError."""
        if not new.image_profiles:
            return new
        for profile in image.profiles:
            self._profiles.get(project_of(new.name), profile)
        return dataclasses.replace(new, settings=dataclasses.replace(new.settings, profiles=image.profiles))

    async def create(self, new: NewInstance, image: ImageRecord) -> None:
        """Make the instance, whose name nobody else has; the caller pins the image's layers, and holds the profiles.

        Raises InvalidRequestError (settings that do not go with the image, nothing to run), ConflictError, WorkerError.
        """
        record = self._record(new, image)
        runtime = Runtime(record)
        # Raises when nothing says what to run: better now than at the start.
        self._roster.process(runtime)
        is_system = image.config_digest is None
        kept = self._images.metadata_directory(image.fingerprint) if is_system and image.fingerprint else None
        await asyncio.to_thread(self._directories.create, new.name, record.rw, kept)
        try:
            await self._roster.add(runtime)
        except BaseException:
            if trash := self._directories.discard(new.name):
                await asyncio.to_thread(self._directories.remove, trash)
            raise
        self._announce("instance-created", instance_url(new.name), CREATED)
        if image.fingerprint:
            self._spawn(self._images.touch(image.fingerprint))

    def _record(self, new: NewInstance, image: ImageRecord) -> InstanceRecord:
        wanted = new.settings
        is_system = image.config_digest is None
        settings.check_config(wanted.config, system=is_system)
        volatile = {
            **({"volatile.base_image": image.fingerprint} if image.fingerprint else {}),
            POWER: "STOPPED",
            "volatile.uuid": str(uuid.uuid4()),
            **new_instance_id(),
        }
        # Templates are due at the first start.
        volatile |= {APPLY: "create"} if is_system else {"volatile.container.oci": "true"}
        given = {key: value for key, value in wanted.config.items() if not is_host_name(key)}
        config = {f"image.{key}": value for key, value in image.properties.items()} | given | volatile
        _, expanded = self._profiles.expand(project_of(new.name), wanted.profiles, config, wanted.devices)
        return InstanceRecord(
            name=new.name,
            architecture=image.architecture,
            description=wanted.description,
            ephemeral=wanted.ephemeral,
            config=config,
            devices=disks.with_root(wanted.devices, expanded),
            profiles=wanted.profiles,
            created_at=time.time(),
            last_used_at=0.0,
            fingerprint=image.fingerprint,
            config_digest=image.config_digest,
            layers=image.layers,
            blobs=image.blobs,
            rw=new_rw(),
        )
