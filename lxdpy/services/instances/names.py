"""Names of instances: which are taken, and some for instances that came without one."""

import secrets
from collections.abc import Container

from lxdpy.errors import ConflictError
from lxdpy.project import plain_name, project_of, qualify, split
from lxdpy.services.instances import settings
from lxdpy.services.instances.roster import Roster
from lxdpy.services.projects import ProjectService

_FIRST = tuple(
    """
    able amber apt bold brave brief brisk calm clear clever cosy crisp deft eager early fair fast fine
    firm fit free fresh gentle glad good grand great green happy hardy keen kind lively lucky mellow
    merry mild neat nimble noble plain proud prime quick quiet rapid ready rich royal safe sharp sleek
    smart snug solid sound spry steady still stout sunny sure swift tidy true vivid warm whole wise
    witty young
    """.split()
)
_SECOND = tuple(
    """
    ant badger bear beetle bison carp cat cod condor crab crane crow deer dove duck eagle eel elk falcon
    finch fox frog gecko goat goose gull hare hawk heron ibex ibis jay kite koala lark lion lynx magpie
    marten mink mole moose moth mouse newt orca osprey otter owl panda perch pike plover puffin quail
    rabbit raven robin salmon seal shark shrew skunk sloth snail snipe stoat stork swan swift tapir tern
    tiger toad trout turtle viper vole wasp weasel whale wolf wren yak zebra
    """.split()
)


def pick(taken: Container[str]) -> str:
    """A name that is not taken."""
    while True:
        name = f"{secrets.choice(_FIRST)}-{secrets.choice(_SECOND)}"
        if name not in taken:
            return name
        name = f"{name}-{secrets.randbelow(10_000)}"
        if name not in taken:
            return name


class Names:
    """The names that instances have, or will have once whoever holds a name has made one."""

    def __init__(self, roster: Roster, projects: ProjectService) -> None:
        self._roster = roster
        self._projects = projects
        self._held: set[str] = set()

    def taken(self) -> set[str]:
        """All of them, of every project."""
        return self._roster.runtimes.keys() | self._held

    def check_free(self, name: str) -> None:
        """Refuse a name below the API that no instance can get. Raises InvalidRequestError, ConflictError."""
        settings.check_name(plain_name(name))
        self._check_taken(name)

    def check_room(self, project: str) -> None:
        """Raises NotFoundError, and InvalidRequestError when a project may not have one more instance."""
        self._projects.check_room(project, sum(project_of(other) == project for other in self.taken()))

    def reserve(self, wanted: str) -> str:
        """Hold a name, which is made up where `wanted` is only a project's. Raises ConflictError when it is taken,
        InvalidRequestError, NotFoundError."""
        project, plain = split(wanted)
        plain = plain or pick({other for where, other in map(split, self.taken()) if where == project})
        settings.check_name(plain)
        name = qualify(project, plain)
        self._check_taken(name)
        self.check_room(project)
        self.hold(name)
        return name

    def hold(self, name: str) -> None:
        """Let nobody else have a name that is free."""
        self._held.add(name)

    def release(self, name: str) -> None:
        """Give back a name that an instance has by now, or never will."""
        self._held.discard(name)

    def _check_taken(self, name: str) -> None:
        if name in self.taken():
            raise ConflictError(f'Instance "{plain_name(name)}" already exists')
