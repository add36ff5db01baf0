"""Projects of this host: made, changed, renamed, deleted; what each has of its own, and what it shares with `default`.

Everything that belongs to projects registers what it has there (`add_user`): features of a project with something in it
stay as they are, and it can neither be renamed nor deleted.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lxdpy.db import profiles as profiles_table
from lxdpy.db import projects as table
from lxdpy.db.connection import Database
from lxdpy.db.projects import ProjectRecord
from lxdpy.errors import AccessDeniedError, ConflictError, InvalidRequestError, NotFoundError
from lxdpy.project import DEFAULT, in_project
from lxdpy.services.events import Announce
from lxdpy.services.projects import settings
from lxdpy.services.projects.settings import Feature
from lxdpy.services.uninterrupted import uninterrupted

Users = Callable[[str], Iterable[str]]
"""API paths of what is in a project."""


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """What a client may write of a project."""

    description: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


class ProjectService:
    """Every project of this host."""

    def __init__(self, database: Database, announce: Announce) -> None:
        self._database = database
        self._announce = announce
        self._projects: dict[str, ProjectRecord] = {}
        self._users: list[Users] = []
        self._forget: list[Callable[[str], None]] = []
        self._filling: Counter[str] = Counter()
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read the database."""
        self._projects = {project.name: project for project in await self._database.run(table.load)}

    def add_user(self, users: Users) -> None:
        """Have `users` asked for what is in a project."""
        self._users.append(users)

    def on_forget(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of a project whose profiles are gone, or go by another name."""
        self._forget.append(listener)

    # ---- reading

    def all(self) -> list[ProjectRecord]:
        """Every project by name."""
        return [self._projects[name] for name in sorted(self._projects)]

    def get(self, name: str) -> ProjectRecord:
        """One project. Raises NotFoundError."""
        try:
            return self._projects[name]
        except KeyError:
            raise NotFoundError(f"Project {name!r:.100} not found") from None

    def owner(self, project: str, feature: Feature) -> str:
        """The project whose things `project` uses: itself, or `default`. Raises NotFoundError."""
        return project if settings.is_true(self.get(project).config.get(feature)) else DEFAULT

    def used_by(self, name: str) -> list[str]:
        """API paths of what is in a project."""
        return [path for users in self._users for path in users(name)]

    @contextmanager
    def filling(self, name: str) -> Iterator[None]:
        """Keep a project from being deleted, renamed and changed while something is made that will be in it: a pull
        takes its time. Raises NotFoundError."""
        self.get(name)
        self._filling[name] += 1
        try:
            yield
        finally:
            self._filling[name] -= 1

    def check_room(self, name: str, instances: int) -> None:
        """Raises NotFoundError, and InvalidRequestError when a project that has `instances` may not have one more."""
        config = self.get(name).config
        for key in ("limits.instances", "limits.containers"):
            if config.get(key) and instances >= int(config[key]):
                raise InvalidRequestError(
                    f'Cannot create an instance in project "{name}": it has {instances}, and "{key}" is {config[key]}'
                )

    def limit(self, name: str, key: str) -> int:
        """A limit of a project, -1 for none. Raises NotFoundError."""
        return int(self.get(name).config.get(key) or -1)

    # ---- changing

    async def create(self, name: str, new: ProjectSettings) -> None:
        """Make a project. Raises InvalidRequestError, ConflictError when the name is taken."""
        settings.check_name(name)
        settings.check_config(new.config)
        await uninterrupted(self._create(ProjectRecord(name, new.description, {**settings.DEFAULTS, **new.config})))
        self._announce("project-created", f"/1.0/projects/{name}")

    async def _create(self, record: ProjectRecord) -> None:
        async with self._changing:
            if record.name in self._projects:
                raise ConflictError(f'Project "{record.name}" already exists')
            await self._put(record)

    async def update(self, name: str, wanted: Callable[[ProjectRecord], ProjectSettings]) -> None:
        """Replace what a client may write.

        `wanted` is asked while nothing else changes projects; what it raises is raised. Raises NotFoundError,
        InvalidRequestError, also for features of a project that is in use.
        """
        await uninterrupted(self._update(name, wanted))
        self._announce("project-updated", f"/1.0/projects/{name}")

    async def _update(self, name: str, wanted: Callable[[ProjectRecord], ProjectSettings]) -> None:
        async with self._changing:
            old = self.get(name)
            new = wanted(old)
            config = {key: value for key, value in new.config.items() if value}
            if config != dict(old.config):
                self._check_change(old, config)
            await self._put(replace(old, description=new.description, config=config))

    def _check_change(self, old: ProjectRecord, config: Mapping[str, str]) -> None:
        """Raises InvalidRequestError for a configuration that a project can't have, or can't take on."""
        changed = [
            feature
            for feature in Feature
            if settings.is_true(config.get(feature)) != settings.is_true(old.config.get(feature))
        ]
        if changed and old.name == DEFAULT:
            raise InvalidRequestError("You can't change the features of the default project")
        if old.name == DEFAULT:
            config = {key: value for key, value in config.items() if key not in set(Feature)}
        settings.check_config(config)
        if changed and not self._is_empty(old.name):
            word = "enabled" if settings.is_true(config.get(changed[0])) else "disabled"
            raise InvalidRequestError(f'Project feature "{changed[0]}" cannot be {word} on non-empty projects')

    def check_rename(self, name: str, new_name: str) -> None:
        """Raises NotFoundError, AccessDeniedError, InvalidRequestError, ConflictError, where a rename would."""
        self.get(name)
        if name == DEFAULT:
            raise AccessDeniedError("The 'default' project cannot be renamed")
        settings.check_name(new_name)
        if new_name in self._projects:
            raise ConflictError(f'A project named "{new_name}" already exists')
        if not self._is_empty(name):
            raise InvalidRequestError("Only empty projects can be renamed")

    async def rename(self, name: str, new_name: str) -> None:
        """Rename a project with nothing in it. Raises what `check_rename` raises."""
        await uninterrupted(self._rename(name, new_name))
        self._announce("project-renamed", f"/1.0/projects/{new_name}", {"old_name": name})

    async def _rename(self, name: str, new_name: str) -> None:
        async with self._changing:
            self.check_rename(name, new_name)
            record = self.get(name)

            def write(db: sqlite3.Connection) -> None:
                profiles_table.delete(db, name, DEFAULT)
                table.rename(db, name, new_name)

            await self._without(record, write)
            self._projects[new_name] = replace(record, name=new_name)

    def check_delete(self, name: str) -> None:
        """Raises NotFoundError, AccessDeniedError for `default`, and InvalidRequestError for one that is in use."""
        self.get(name)
        if name == DEFAULT:
            raise AccessDeniedError("The 'default' project cannot be deleted")
        if not self._is_empty(name):
            raise InvalidRequestError("Only empty projects can be removed")

    async def delete(self, name: str) -> None:
        """Delete an empty project. Raises what `check_delete` raises."""
        await uninterrupted(self._delete(name))
        self._announce("project-deleted", f"/1.0/projects/{name}")

    async def _delete(self, name: str) -> None:
        async with self._changing:
            self.check_delete(name)
            await self._without(self.get(name), lambda db: table.delete(db, name))

    async def _without(self, record: ProjectRecord, write: Callable[[sqlite3.Connection], None]) -> None:
        """Write that a project is no more; nothing can be put into it meanwhile."""
        del self._projects[record.name]
        try:
            await self._database.run(write)
        except BaseException:
            self._projects[record.name] = record
            raise
        self._tell_forget(record.name)

    async def _put(self, record: ProjectRecord) -> None:
        own_profiles = settings.is_true(record.config.get(Feature.PROFILES))

        def write(db: sqlite3.Connection) -> None:
            table.put(db, record)
            if not own_profiles:
                profiles_table.delete(db, record.name, DEFAULT)

        await self._database.run(write)
        self._projects[record.name] = record
        if not own_profiles:
            self._tell_forget(record.name)

    def _tell_forget(self, name: str) -> None:
        for listener in self._forget:
            listener(name)

    def _is_empty(self, name: str) -> bool:
        """Whether nothing is in a project, or about to be, but the profile that each has."""
        return not self._filling[name] and not [
            path for path in self.used_by(name) if path != in_project("/1.0/profiles/default", name)
        ]
