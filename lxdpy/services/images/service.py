"""Images on this host: found, pulled, imported, changed, deleted.

A record in the database makes an image: it comes last when one is made, and goes first when one is deleted. records.py
has what the records hold, garbage.py what becomes of layers and blobs that no record refers to any more.
"""

import asyncio
import dataclasses
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from lxdpy.config import Config
from lxdpy.db import images as table
from lxdpy.db.connection import Database
from lxdpy.db.images import AliasRecord, ImageKind, ImageRecord
from lxdpy.db.instances import InstanceRecord
from lxdpy.drivers.base import (
    ImageFiles,
    ImageServers,
    Incoming,
    LayerRequest,
    Registry,
    RemoteImage,
    ResolvedImage,
    Store,
    StoredLayer,
)
from lxdpy.errors import ConflictError, InvalidRequestError, LxdpyError, NotFoundError
from lxdpy.oci.digest import Digest
from lxdpy.oci.image_config import ImageConfig
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from lxdpy.progress import Progress
from lxdpy.project import DEFAULT, in_project
from lxdpy.services.events import Announce
from lxdpy.services.images import records
from lxdpy.services.images.aliases import Aliases
from lxdpy.services.images.aliases import path as alias_path
from lxdpy.services.images.ancestry import AncestryEntry, ancestry
from lxdpy.services.images.documents import Documents
from lxdpy.services.images.export import ExportedFile, export
from lxdpy.services.images.garbage import Garbage
from lxdpy.services.images.import_ import (
    ImageDetails,
    ImageSettings,
    changed,
    check_environment,
    check_properties,
    read,
    record,
)
from lxdpy.services.images.lazy import VIRTUAL_S, LazyImages
from lxdpy.services.images.rebuild import rebuild
from lxdpy.services.images.remote import RemoteImages
from lxdpy.services.images.source import ImageSource
from lxdpy.services.projects import ProjectService
from lxdpy.services.server_config import ServerConfig
from lxdpy.services.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundImage:
    """What a source names: an image that is here, or one in a registry or on an image server that `fetch` brings."""

    record: ImageRecord | None
    resolved: ResolvedImage | None
    remote: RemoteImage | None = None
    source: ImageSource | None = None
    """Of one that an image server has, whether or not it is here, too."""

    @property
    def fingerprint(self) -> str:
        """Of the image, wherever it is."""
        if self.record is not None:
            return self.record.fingerprint
        if self.resolved is not None:
            return self.resolved.manifest_digest.hex
        return self.remote.fingerprint if self.remote is not None else ""


class ImageService:
    """Every image of this host."""

    def __init__(
        self,
        config: Config,
        database: Database,
        store: Store,
        registry: Registry,
        servers: ImageServers,
        server_config: ServerConfig,
        projects: ProjectService,
        announce: Announce,
    ) -> None:
        self._projects = projects
        self._config = config
        self._database = database
        self._store = store
        self._registry = registry
        self._announce = announce
        self._server_config = server_config
        self._platform = Platform.host()
        self._lazy = LazyImages(self._resolve, config.images.default_registry)
        self._remote = RemoteImages(store, servers, server_config)
        self._documents = Documents(store)
        self.garbage = Garbage(store)
        self.garbage.add_referrer(lambda: [(image.layers, image.blobs) for image in self._images.values()])
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._images: dict[str, ImageRecord] = {}
        self._changing = asyncio.Lock()
        """Held while images or aliases change, so that memory and database agree."""
        self.aliases = Aliases(database, config.images.default_registry, announce, self._changing, self._name_blobs)

    async def load(self) -> None:
        """Read the database."""
        images, aliases = await self._database.run(lambda db: (table.load(db), table.load_aliases(db)))
        self._images = {image.fingerprint: image for image in images}
        self.aliases.put(aliases)

    # ---- reading

    def all(self, project: str | None = None) -> list[ImageRecord]:
        """Every image, or those of one project, newest upload first."""
        images = [image for image in self._images.values() if project is None or project in image.projects]
        return sorted(images, key=lambda image: -image.uploaded_at)

    def paths_in(self, project: str) -> list[str]:
        """API paths of a project's images."""
        return [in_project(f"/1.0/images/{image.fingerprint}", project) for image in self.all(project)]

    def get(self, fingerprint: str, project: str | None = None) -> ImageRecord:
        """An image, or one of a project, by fingerprint or an unambiguous prefix of it. Raises NotFoundError,
        InvalidRequestError."""
        exact = self._images.get(fingerprint)
        if exact is not None and (project is None or project in exact.projects):
            return exact
        matches = [image for image in self.all(project) if fingerprint and image.fingerprint.startswith(fingerprint)]
        if not matches:
            raise NotFoundError(f'Image "{fingerprint}" not found')
        if len(matches) > 1:
            raise InvalidRequestError(f'Partial fingerprint "{fingerprint}" matches more than one image')
        return matches[0]

    def show(self, name: str, project: str = DEFAULT) -> ImageRecord:
        """As `get`; and by its whole fingerprint an image that was looked up in a registry lately, as a pull would make
        it. Raises also what such a lookup of `name` led to."""
        try:
            return self.get(name, project)
        except NotFoundError as exc:
            if resolved := self._lazy.get(name):
                known = self._images.get(resolved.manifest_digest.hex)
                return dataclasses.replace(records.pulled(resolved, (), known, DEFAULT), uploaded_at=0.0)
            raise self._lazy.failure(name) or _hinted(name, exc) from None

    def has(self, fingerprint: str) -> bool:
        """Whether the image with exactly this fingerprint is here."""
        return fingerprint in self._images

    async def find_alias(self, name: str, project: str = DEFAULT) -> AliasRecord:
        """As `alias`; a reference that says by itself that it is in a registry is looked up there, and names an image
        that may not be here. Raises NotFoundError, RegistryError."""
        try:
            return self.aliases.get(name, project)
        except NotFoundError:
            reference = self._lazy.reference(name)
            if reference is None:
                raise
            resolved = await self._lazy.find(reference)
            return AliasRecord(reference.familiar, resolved.manifest_digest.hex, "")

    def lookup(self, name: str, project: str = DEFAULT) -> ImageRecord:
        """An image by alias, reference or fingerprint prefix. Raises NotFoundError, InvalidRequestError."""
        try:
            return self._images[self.aliases.get(name, project).fingerprint]
        except NotFoundError:
            return self.get(name, project)

    def config(self, config_digest: Digest) -> ImageConfig:
        """An image's configuration. Raises NotFoundError when its blob is gone."""
        return self._documents.config(config_digest)

    def ancestry(self, fingerprint: str) -> list[AncestryEntry]:
        """The image's layers, newest first. Raises NotFoundError."""
        image = self.get(fingerprint)
        if image.config_digest is None or image.kind is not ImageKind.OCI:
            raise InvalidRequestError(f'Image "{image.fingerprint[:12]}" has no ancestry: it is no OCI image')
        manifest = self._documents.manifest(image.manifest_digest)
        layers = [self._store.layer(layer_id) for layer_id in image.layers]
        return ancestry(manifest, self.config(image.config_digest), layers)

    def metadata_directory(self, fingerprint: str) -> Path:
        """Where an LXD image's metadata.yaml and templates/ are, to be copied by who makes an instance of it (and pins
        its layers, or ensures them, first). Raises NotFoundError."""
        return self._store.image_directory(fingerprint)

    def nothing(self) -> FoundImage:
        """The image of an instance that is made of none."""
        return FoundImage(records.of_nothing(), None)

    # ---- finding and pulling

    async def find(self, source: ImageSource, *, refresh: bool = False) -> FoundImage:
        """What `source` names. With a registry source an image that is here is taken as it is unless `refresh`; one
        that was looked up lately counts as if it were here.

        Raises NotFoundError (naming the registry that was asked), AccessDeniedError, RegistryError,
        InvalidRequestError.
        """
        if not source.is_remote:
            return await self._find_local(source)
        if source.is_streams:
            return await self._find_on_server(source, refresh=refresh)
        reference = source.reference(self._config.images.default_registry)
        alias = self.aliases.exact(reference.familiar, source.project)
        if alias is not None and not refresh:
            return FoundImage(self._images[alias.fingerprint], None)
        return FoundImage(None, await self._resolve(reference))

    async def _find_local(self, source: ImageSource) -> FoundImage:
        """An image that is here, or was looked up in a registry by its name."""
        try:
            if source.fingerprint:
                return FoundImage(self.get(source.fingerprint, source.project), None)
            if source.alias:
                return FoundImage(self.lookup(source.alias, source.project), None)
        except NotFoundError as exc:
            if source.fingerprint:
                known = self._images.get(source.fingerprint)
                if known is not None and records.names_of_pull(known):
                    # Another project's, from a registry: clients find it there by a remote that knows no projects.
                    return FoundImage(known, None)
                resolved = self._lazy.get(source.fingerprint)
                if resolved is None:
                    raise _expired(source.fingerprint, exc) from None
            else:
                reference = self._lazy.reference(source.alias)
                if reference is None:
                    raise _hinted(source.alias, exc) from None
                resolved = await self._lazy.find(reference)
            known = self._images.get(resolved.manifest_digest.hex)
            return FoundImage(known, None if known else resolved)
        raise InvalidRequestError('Cannot choose an image: source needs "alias" or "fingerprint"')

    async def _find_on_server(self, source: ImageSource, *, refresh: bool) -> FoundImage:
        """An image of an image server, which is asked unless the image is here and kept up to date."""
        known = None if refresh else self._remote.known(source, self._images.values())
        if known is not None:
            return FoundImage(known, None)
        remote = await self._remote.find(source)
        known = self._images.get(remote.fingerprint)
        return FoundImage(known, None, None if known else remote, source)

    async def _resolve(self, reference: Reference) -> ResolvedImage:
        """Ask the registry, and see that its image can be had."""
        await self._store.wake()
        resolved = await self._registry.resolve(reference, self._platform, cached=self._store.read_blob)
        records.check_pull(resolved, self._config.images.max_layers)
        return resolved

    async def fetch(self, found: FoundImage, wanted: ImageDetails, progress: Progress) -> ImageRecord:
        """Bring what `find` has found, and have it as `wanted`, which an image that is here already becomes as well,
        unless an instance is all that is wanted (`cached`).

        Raises what `pull` and `import_files` raise, and NotFoundError (the project).
        """
        with self._projects.filling(wanted.project):
            return await self._fetch(found, wanted, progress)

    async def _fetch(self, found: FoundImage, wanted: ImageDetails, progress: Progress) -> ImageRecord:
        if found.remote is not None:
            # Held by those who wait, and gone with the last of them.
            async with self._fetching.setdefault(found.fingerprint, asyncio.Lock()):
                if found.fingerprint not in self._images:
                    assert found.source is not None
                    return await self._fetch_remote(found.remote, found.source, wanted, progress)
        elif found.resolved is not None:
            await self.pull(found.resolved, progress, wanted.project)
        if not wanted.cached:
            await uninterrupted(self._settle(found.fingerprint, found.source, wanted))
        await uninterrupted(self._admit(found.fingerprint, wanted.project))
        return self.get(found.fingerprint)

    async def _admit(self, fingerprint: str, project: str, aliases: Mapping[str, str] | None = None) -> ImageRecord:
        """Have an image that is here in a project, too. Raises NotFoundError."""
        async with self._changing:
            image = self.get(fingerprint)
            self.aliases.check_free(aliases or {}, project)
            if project in image.projects:
                return image
            new = dataclasses.replace(image, projects=(*image.projects, project))
            own = {name: "" for name in records.names_of_pull(image) if self.aliases.exact(name, project) is None}
            texts = {**own, **(aliases or {})}
            names = [AliasRecord(name, fingerprint, text, project) for name, text in texts.items()]
            await self._database.run(lambda db: table.put_with_aliases(db, new, names))
            self._images[fingerprint] = new
            self.aliases.put(names)
        self._announce("image-created", in_project(f"/1.0/images/{fingerprint}", project), {"type": "container"})
        return new

    async def fetch_for_instance(self, found: FoundImage, progress: Progress, project: str = DEFAULT) -> ImageRecord:
        """Bring what an instance is to be made of. What comes from an image server is cached: it expires."""
        wanted = ImageDetails(cached=True, auto_update=self._server_config.auto_update_cached, project=project)
        return await self.fetch(found, wanted, progress)

    async def _fetch_remote(
        self, remote: RemoteImage, source: ImageSource, wanted: ImageDetails, progress: Progress
    ) -> ImageRecord:
        details = dataclasses.replace(
            wanted,
            fingerprint=remote.fingerprint,
            filename=wanted.filename or remote.filename,
            # By its fingerprint it will never be another one.
            auto_update=wanted.auto_update and not remote.fingerprint.startswith(source.name),
            properties={**remote.properties, **wanted.properties},
            expires_at=wanted.expires_at or remote.expires_at or None,
            protocol=source.protocol,
            server=remote.server,
            reference=source.name,
            certificate=source.certificate,
        )
        self.aliases.check_free(details.aliases, details.project)
        try:
            with self.garbage.pin((), [file.digest for file in remote.files]):
                files = await self._remote.fetch(remote, source.certificate, progress)
                return await self.import_files(files, details)
        except LxdpyError:
            # Files that have come and are no image, or only a part of one.
            await self.garbage.collect()
            raise

    async def pull(self, resolved: ResolvedImage, progress: Progress, project: str = DEFAULT) -> ImageRecord:
        """Fetch and unpack what is missing of an image, and record it in a project, under its reference.

        Raises RegistryError, DigestMismatchError, AccessDeniedError, LayerError, NoSpaceError, WorkerError.
        """
        layers = await self._store.materialize(
            [
                LayerRequest(descriptor, diff_id, self._registry.blob_source(resolved, descriptor))
                for descriptor, diff_id in zip(resolved.manifest.layers, resolved.config.diff_ids, strict=True)
            ],
            progress,
        )
        layer_ids = tuple(layer.id for layer in layers)
        try:
            return await uninterrupted(self._put(resolved, layer_ids, project))
        finally:
            self._store.release(layer_ids)

    async def ensure_layers(self, made_of: ImageRecord | InstanceRecord) -> None:
        """Rebuild layers that a power cut took, from the blobs that are here. Raises NotFoundError, LayerError."""
        await rebuild(made_of, self._store, self._documents)

    # ---- images as files

    def receive(self) -> Incoming:
        """Begin to receive an image's files, to be imported, and discarded in any case."""
        return self._store.receive()

    async def import_files(self, files: ImageFiles, details: ImageDetails) -> ImageRecord:
        """Unpack an LXD image's files, keep them, and record it.

        Raises ConflictError (it, or one of its new names, is here already), InvalidRequestError (another fingerprint,
        nonsense in it), LayerError (it is no image), UnsupportedError, NotFoundError (the project), NoSpaceError,
        WorkerError.
        """
        with self._projects.filling(details.project):
            return await self._import_files(files, details)

    async def _import_files(self, files: ImageFiles, details: ImageDetails) -> ImageRecord:
        self._check_import(files, details)
        check_properties(details.properties)
        if files.fingerprint in self._images:
            return await uninterrupted(self._admit(files.fingerprint, details.project, details.aliases))
        layer = await self._store.unpack_image(files)
        try:
            return await uninterrupted(self._put_files(files, layer, details))
        finally:
            self._store.release((layer.id,))

    def _check_import(self, files: ImageFiles, details: ImageDetails) -> None:
        if details.fingerprint and details.fingerprint != files.fingerprint:
            raise InvalidRequestError(
                f"Fingerprints don't match: got {files.fingerprint}, expected {details.fingerprint:.100}"
            )
        known = self._images.get(files.fingerprint)
        if known is not None and details.project in known.projects:
            raise ConflictError("Image with same fingerprint already exists")
        self.aliases.check_free(details.aliases, details.project)

    async def _put_files(self, files: ImageFiles, layer: StoredLayer, details: ImageDetails) -> ImageRecord:
        async with self._changing:
            self._check_import(files, details)
            metadata, config = await asyncio.to_thread(read, self._store.image_directory(files.fingerprint))
            config_digest = None if config is None else Digest.of(config)
            known = self._images.get(files.fingerprint)
            image = dataclasses.replace(
                record(files, layer, metadata, config_digest, details),
                projects=(*(known.projects if known else ()), details.project),
            )
            check_properties(image.properties)
            with self.garbage.pin(image.layers, image.blobs):
                if config is not None and config_digest is not None:
                    check_environment("import the image", ImageConfig.parse(config))
                    await asyncio.to_thread(self._store.write_blob, config_digest, config)
                aliases = [
                    AliasRecord(name, image.fingerprint, text, details.project)
                    for name, text in details.aliases.items()
                ]
                await self._database.run(lambda db: table.put_with_aliases(db, image, aliases))
                self._images[image.fingerprint] = image
                self.aliases.put(aliases)
        path = in_project(f"/1.0/images/{image.fingerprint}", details.project)
        self._announce("image-created", path, {"type": "container"})
        for alias in aliases:
            self._announce("image-alias-created", alias_path(alias))
        return image

    async def export(self, fingerprint: str, project: str = DEFAULT) -> list[ExportedFile]:
        """An LXD image's files, open, for the caller to close. Raises NotFoundError, UnsupportedError."""
        image = self.get(fingerprint, project)
        files = await asyncio.to_thread(export, image, self._store)
        self._announce("image-retrieved", in_project(f"/1.0/images/{image.fingerprint}", project))
        return files

    async def _put(self, resolved: ResolvedImage, layer_ids: tuple[str, ...], project: str) -> ImageRecord:
        """Record a pulled image under its reference."""
        async with self._changing:
            known = self._images.get(resolved.manifest_digest.hex)
            image = records.pulled(resolved, layer_ids, known, project)
            with self.garbage.pin(image.layers, image.blobs):
                await asyncio.to_thread(self._documents.write, resolved)
                alias = self.aliases.exact(resolved.reference.familiar, project)
                new_alias = AliasRecord(
                    resolved.reference.familiar, image.fingerprint, alias.description if alias else "", project
                )
                if (image, new_alias) != (known, alias):
                    # Its layers are not on disk yet either: the store syncs them in a while.
                    await self._database.run(lambda db: table.put_with_alias(db, image, new_alias), durable=False)
                    self._images[image.fingerprint] = image
                    self.aliases.put([new_alias])
                    await self._name_blobs()
                    action = "image-updated" if known else "image-created"
                    self._announce(action, in_project(f"/1.0/images/{image.fingerprint}", project))
            return image

    # ---- changing

    async def touch(self, fingerprint: str) -> None:
        """Note that an instance was made of the image."""
        async with self._changing:
            if image := self._images.get(fingerprint):
                used = dataclasses.replace(image, last_used_at=time.time())
                await self._database.run(lambda db: table.put(db, used), durable=False)
                self._images[fingerprint] = used

    async def add_alias(self, name: str, fingerprint: str, description: str, project: str = DEFAULT) -> AliasRecord:
        """Name an image. Raises ConflictError when the name is taken, NotFoundError, InvalidRequestError."""
        return await self.aliases.add(name, lambda: self.get(fingerprint, project).fingerprint, description, project)

    async def update_alias(
        self, name: str, change: Callable[[AliasRecord], AliasRecord], project: str = DEFAULT
    ) -> None:
        """Have an alias name another image, or describe it otherwise. Raises NotFoundError and what `change` raises."""

        def checked(alias: AliasRecord) -> AliasRecord:
            new = change(alias)
            return dataclasses.replace(new, fingerprint=self.get(new.fingerprint, project).fingerprint)

        await self.aliases.update(name, checked, project)

    async def update(
        self, fingerprint: str, change: Callable[[ImageRecord], ImageSettings], project: str = DEFAULT
    ) -> None:
        """Replace what clients may change; `change` is asked while nothing else changes the image, and may raise.

        Raises NotFoundError, InvalidRequestError.
        """
        await uninterrupted(self._update(fingerprint, change, project))

    async def _update(self, fingerprint: str, change: Callable[[ImageRecord], ImageSettings], project: str) -> None:
        async with self._changing:
            image = self.get(fingerprint, project)
            new = changed(image, change(image))
            await self._database.run(lambda db: table.put(db, new))
            self._images[new.fingerprint] = new
        self._announce("image-updated", in_project(f"/1.0/images/{new.fingerprint}", project))

    async def _settle(self, fingerprint: str, source: ImageSource | None, wanted: ImageDetails) -> None:
        """Have an image that is here be what a client wants of one that it asked for by itself."""
        async with self._changing:
            image = self.get(fingerprint)
            taken = [alias for name in wanted.aliases if (alias := self.aliases.exact(name, wanted.project))]
            if other := next((alias for alias in taken if alias.fingerprint != image.fingerprint), None):
                raise ConflictError(f"Alias already exists: {other.name}")
            new = records.settled(image, source, wanted)
            aliases = [
                AliasRecord(name, image.fingerprint, text, wanted.project) for name, text in wanted.aliases.items()
            ]
            if new != image or aliases:
                await self._database.run(lambda db: table.put_with_aliases(db, new, aliases))
                self._images[new.fingerprint] = new
                self.aliases.put(aliases)
                await self._name_blobs()

    async def supersede(self, old: str, new: str) -> None:
        """Let an image take the place of an older one: it gets its names and settings, and the older one is deleted.

        Raises NotFoundError when one of them is gone.
        """
        await uninterrupted(self._supersede(old, new))
        await self.garbage.collect()

    async def _supersede(self, old: str, new: str) -> None:
        async with self._changing:
            before, after = self.get(old), self.get(new)
            image = records.superseding(before, after)
            aliases = [dataclasses.replace(alias, fingerprint=new) for alias in self.aliases.of(old, None)]

            def write(db: sqlite3.Connection) -> None:
                table.put_with_aliases(db, image, aliases)
                table.delete(db, old)

            await self._database.run(write)
            self._images[new] = image
            del self._images[old]
            self.aliases.put(aliases)
            await self._name_blobs()
        for alias in aliases:
            self._announce("image-alias-updated", alias_path(alias))
        for project in before.projects:
            self._announce("image-deleted", in_project(f"/1.0/images/{old}", project))
            self._announce("image-refreshed", in_project(f"/1.0/images/{new}", project))

    async def delete(self, fingerprint: str, project: str | None = None) -> None:
        """Delete an image from a project, or altogether; its layers stay while other images or instances use them.

        Raises NotFoundError.
        """
        await uninterrupted(self._delete(fingerprint, project))
        await self.garbage.collect()

    async def _delete(self, fingerprint: str, project: str | None) -> None:
        async with self._changing:
            image = self.get(fingerprint, project)
            others = tuple(other for other in image.projects if project not in (None, other))
            if others and project is not None:
                kept = dataclasses.replace(image, projects=others)
                await self._database.run(lambda db: table.withdraw(db, kept, project))
                self._images[image.fingerprint] = kept
            else:
                await self._database.run(lambda db: table.delete(db, image.fingerprint))
                del self._images[image.fingerprint]
            self.aliases.forget(image.fingerprint, project)
            await self._name_blobs()
        for gone in set(image.projects) - set(others):
            self._announce("image-deleted", in_project(f"/1.0/images/{image.fingerprint}", gone))

    async def _name_blobs(self) -> None:
        """Tell the store the images' names. What is lost here is only for others to read: a failure is logged."""
        named = [(alias.name, self._images[alias.fingerprint]) for alias in self.aliases.all()]
        try:
            await asyncio.to_thread(self._documents.write_index, named)
        except LxdpyError as exc:
            logger.error("Cannot write the index of the image layout: %s", exc)


def _hinted(name: str, error: NotFoundError) -> NotFoundError:
    """`error`, and how an image in a registry would be named, where `name` may have meant one."""
    try:
        tagged = Reference.parse(name).familiar if ":" not in name and "@" not in name else ""
    except InvalidRequestError:
        tagged = ""
    return NotFoundError(f'{error} (in a registry? name it with its tag, as "{tagged}")') if tagged else error


def _expired(fingerprint: str, error: NotFoundError) -> NotFoundError:
    """`error`, and why an image that was shown to a client may be unknown now."""
    if len(fingerprint) != 64:
        return error
    return NotFoundError(
        f"{error}. What was looked up in a registry is known for {VIRTUAL_S / 60:g} minutes while the daemon runs: "
        "name it again"
    )
