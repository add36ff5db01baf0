"""Profiles: named sets of configuration and devices that instances share.

A project has profiles of its own, or uses those of `default`; whichever it is, callers name the project they are in.
`default` is in every project that has its own: one that was never changed has no row.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lxdpy.db import profiles as table
from lxdpy.db.connection import Database
from lxdpy.db.instances import Devices
from lxdpy.db.profiles import ProfileRecord
from lxdpy.errors import AccessDeniedError, BusyError, ConflictError, InvalidRequestError, NotFoundError
from lxdpy.project import DEFAULT, in_project
from lxdpy.services.events import Announce
from lxdpy.services.instances import settings
from lxdpy.services.projects import Feature, ProjectService
from lxdpy.services.uninterrupted import uninterrupted

Write = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """What a client may write of a profile."""

    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)


class ProfileUsers:
    """The instances that have profiles, as far as profiles need to know them."""

    def names(self, owner: str, profile: str) -> list[str]:
        """The instances, by their names below the API, that have a profile of project `owner`."""
        return []

    def check(self, new: ProfileRecord) -> None:
        """Raises InvalidRequestError when an instance could not be with a profile as it is to become."""

    def changed(self, owner: str, profile: str) -> None:
        """What a profile gives to its instances has changed."""

    async def apply(self, owner: str, profile: str) -> None:
        """Bring instances that run to what a profile gives them. Raises ConflictError naming those that can't be."""

    async def renamed(self, owner: str, profile: str, new_name: str, write: Write) -> None:
        """Write, in one transaction with `write`, that a profile of these instances has another name."""


class Profiles:
    """Every profile of this host."""

    def __init__(self, database: Database, projects: ProjectService, announce: Announce, bridge: str) -> None:
        """`bridge` is the network on which the first default profile puts instances."""
        self._database = database
        self._projects = projects
        self._announce = announce
        self._bridge = bridge
        self._profiles: dict[tuple[str, str], ProfileRecord] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self._leaving: set[tuple[str, str]] = set()
        """Those that are being renamed."""
        self._changing = asyncio.Lock()
        self.users = ProfileUsers()
        projects.add_user(self._in_project)
        projects.on_forget(self._forget)

    async def load(self) -> None:
        """Read the database; a host's first daemon makes the default profile."""
        profiles = await self._database.run(table.load)
        self._profiles = {(profile.project, profile.name): profile for profile in profiles}
        if (DEFAULT, DEFAULT) not in self._profiles:
            devices = {
                "eth0": {"type": "nic", "name": "eth0", "network": self._bridge},
                "root": {"type": "disk", "path": "/", "pool": "default"},
            }
            await self._put(ProfileRecord(DEFAULT, DEFAULT, "Default lxdpy profile", devices=devices))

    # ---- reading

    def owner(self, project: str) -> str:
        """The project whose profiles `project` uses. Raises NotFoundError."""
        return self._projects.owner(project, Feature.PROFILES)

    def all(self, project: str) -> list[ProfileRecord]:
        """Every profile that a project uses, by name. Raises NotFoundError."""
        owner = self.owner(project)
        names = {name for where, name in self._profiles if where == owner} | {DEFAULT}
        return [self.get(owner, name) for name in sorted(names)]

    def everywhere(self) -> list[ProfileRecord]:
        """Every profile of every project that was ever changed."""
        return list(self._profiles.values())

    def get(self, project: str, name: str) -> ProfileRecord:
        """One profile. Raises NotFoundError."""
        owner = self.owner(project)
        found = self._profiles.get((owner, name))
        if found is not None:
            return found
        if name == DEFAULT:
            return ProfileRecord(owner, name, f"Default lxdpy profile for project {owner}")
        raise NotFoundError(f'Profile "{name}" not found')

    def used_by(self, profile: ProfileRecord) -> list[str]:
        """The instances that have a profile, by their names below the API."""
        return self.users.names(profile.project, profile.name)

    def expand(
        self,
        project: str,
        names: tuple[str, ...],
        config: Mapping[str, str],
        devices: Devices,
        *,
        new: ProfileRecord | None = None,
    ) -> tuple[dict[str, str], dict[str, Mapping[str, str]]]:
        """Configuration and devices as they apply, or would if one of the profiles were `new`: later profiles win, the
        instance's own win over all."""
        all_config: dict[str, str] = {}
        all_devices: dict[str, Mapping[str, str]] = {}
        for name in names:
            profile = new if new is not None and new.name == name else self.get(project, name)
            all_config.update(profile.config)
            all_devices.update(profile.devices)
        return {**all_config, **config}, {**all_devices, **devices}

    @contextmanager
    def held(self, project: str, names: Iterable[str]) -> Iterator[None]:
        """Keep profiles from being renamed and deleted while an instance takes them on.

        Raises NotFoundError, BusyError for one that is being renamed: the instance would not be among those that are
        told of it.
        """
        keys = [(profile.project, profile.name) for profile in (self.get(project, name) for name in names)]
        if leaving := next((name for owner, name in keys if (owner, name) in self._leaving), None):
            raise BusyError(f'Profile "{leaving}" is being renamed')
        self._held.update(keys)
        try:
            yield
        finally:
            self._held -= Counter(keys)

    # ---- changing

    async def create(self, project: str, name: str, new: ProfileSettings) -> None:
        """Make a profile. Raises NotFoundError (project), InvalidRequestError, ConflictError when the name is taken."""
        _check_name(name)
        _check(new)
        await uninterrupted(self._create(ProfileRecord(project, name, new.description, new.config, new.devices)))
        self._announce("profile-created", in_project(f"/1.0/profiles/{name}", project))

    async def _create(self, record: ProfileRecord) -> None:
        async with self._changing:
            owner = self.owner(record.project)
            if record.name == DEFAULT or (owner, record.name) in self._profiles:
                raise ConflictError(f'Profile "{record.name}" already exists')
            with self._projects.filling(owner):
                await self._put(replace(record, project=owner))

    async def update(self, project: str, name: str, wanted: Callable[[ProfileRecord], ProfileSettings]) -> None:
        """Replace what a client may write; limits, NICs and disks of running instances change at once, the rest at
        their next start.

        `wanted` is asked while nothing else changes profiles; what it raises is raised. Raises NotFoundError,
        InvalidRequestError, UnsupportedError; ConflictError when the profile is changed, and instances can't follow.
        """
        await uninterrupted(self._update(project, name, wanted))
        self._announce("profile-updated", in_project(f"/1.0/profiles/{name}", project))

    async def _update(self, project: str, name: str, wanted: Callable[[ProfileRecord], ProfileSettings]) -> None:
        record = await self._replace(project, name, wanted)
        await self.users.apply(record.project, name)

    async def _replace(
        self, project: str, name: str, wanted: Callable[[ProfileRecord], ProfileSettings]
    ) -> ProfileRecord:
        async with self._changing:
            old = self.get(project, name)
            new = wanted(old)
            _check(new)
            record = replace(old, description=new.description, config=new.config, devices=new.devices)
            self.users.check(record)
            await self._put(record)
        self.users.changed(record.project, name)
        return record

    async def change_devices(self, project: str, name: str, devices: Devices) -> None:
        """Replace a profile's devices, on the daemon's own account, by others that mean the same to all that runs: no
        instance's lock is waited for. Raises NotFoundError."""
        await self._replace(
            project, name, lambda profile: ProfileSettings(profile.description, profile.config, devices)
        )

    async def rename(self, project: str, name: str, new_name: str) -> None:
        """Rename a profile, also in the instances that have it.

        Raises NotFoundError, InvalidRequestError, AccessDeniedError for `default`, ConflictError.
        """
        _check_name(new_name)
        await uninterrupted(self._rename(project, name, new_name))
        self._announce("profile-renamed", in_project(f"/1.0/profiles/{new_name}", project), {"old_name": name})

    async def _rename(self, project: str, name: str, new_name: str) -> None:
        async with self._changing:
            old = self._free(project, name, "renamed")
            if new_name == DEFAULT or (old.project, new_name) in self._profiles:
                raise ConflictError(f'Name "{new_name}" already in use')
            new = replace(old, name=new_name)

            def write(db: sqlite3.Connection) -> None:
                table.delete(db, old.project, name)
                table.put(db, new)

            # Found by both names, so that instances are right before and after their turn comes.
            self._profiles[new.project, new_name] = new
            self._leaving.add((old.project, name))
            try:
                await self.users.renamed(old.project, name, new_name, write)
            except BaseException:
                del self._profiles[new.project, new_name]
                raise
            finally:
                self._leaving.discard((old.project, name))
            del self._profiles[old.project, name]

    async def delete(self, project: str, name: str) -> None:
        """Delete a profile. Raises NotFoundError, AccessDeniedError for `default`, InvalidRequestError while in use."""
        await uninterrupted(self._delete(project, name))
        self._announce("profile-deleted", in_project(f"/1.0/profiles/{name}", project))

    async def _delete(self, project: str, name: str) -> None:
        async with self._changing:
            profile = self._free(project, name, "deleted")
            if self.used_by(profile):
                raise InvalidRequestError("Profile is currently in use")
            key = profile.project, name
            del self._profiles[key]
            try:
                await self._database.run(lambda db: table.delete(db, *key))
            except BaseException:
                self._profiles[key] = profile
                raise

    def _free(self, project: str, name: str, what: str) -> ProfileRecord:
        """A profile that may go. Raises NotFoundError, AccessDeniedError, BusyError while an instance takes it on."""
        profile = self.get(project, name)
        if name == DEFAULT:
            raise AccessDeniedError(f"The 'default' profile cannot be {what}")
        if self._held[profile.project, name]:
            raise BusyError(f'Profile "{name}" cannot be {what}: an instance with it is being made or changed')
        return profile

    async def _put(self, record: ProfileRecord) -> None:
        await self._database.run(lambda db: table.put(db, record))
        self._profiles[record.project, record.name] = record

    def _in_project(self, project: str) -> list[str]:
        if self.owner(project) != project:
            return []
        return [in_project(f"/1.0/profiles/{profile.name}", project) for profile in self.all(project)]

    def _forget(self, project: str) -> None:
        for key in [key for key in self._profiles if key[0] == project]:
            del self._profiles[key]


def _check_name(name: str) -> None:
    """Refuse what can't be a part of a path. Raises InvalidRequestError."""
    if not name:
        raise InvalidRequestError("No name provided")
    if "/" in name:
        raise InvalidRequestError("Profile names may not contain slashes")
    if name in (".", "..") or len(name) > 200 or any(ord(char) < 32 for char in name):
        raise InvalidRequestError(f"Invalid profile name {name!r:.100}")


def _check(new: ProfileSettings) -> None:
    """Raises InvalidRequestError, UnsupportedError for what a profile can't have."""
    for key in new.config:
        if key.startswith(("volatile.", "image.")):
            raise InvalidRequestError(f"Invalid config: {key:.200}: only instances can have it")
    settings.check_config(new.config)
    settings.check_devices(new.devices)
