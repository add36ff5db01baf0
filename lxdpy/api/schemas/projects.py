"""Projects on the wire."""

from collections.abc import Mapping

from pydantic import BaseModel, Field

from lxdpy.api.schemas.instances import Lenient, Texts
from lxdpy.db.projects import ProjectRecord
from lxdpy.services.projects import ProjectSettings


class Project(BaseModel):
    """A project."""

    name: str
    description: str
    config: dict[str, str]
    used_by: list[str]


class ProjectPut(Lenient):
    """What a client may write of a project."""

    description: str | None = None
    config: Texts | None = None


class ProjectsPost(ProjectPut):
    """A new project."""

    name: str | None = Field(None, description="letters, digits, hyphens and dots")


class ProjectPatch(ProjectPut):
    """The part of `ProjectPut` to change; an empty value removes a key."""


class ProjectPost(Lenient):
    """Another name."""

    name: str | None = None


class ProjectResource(BaseModel):
    """How much of something a project may have, -1 for any amount, and has."""

    Limit: int
    Usage: int


class ProjectState(BaseModel):
    """What is in a project, and how much may be."""

    resources: dict[str, ProjectResource]


def settings(body: ProjectPut) -> ProjectSettings:
    """The writable part as a whole; what is absent is empty."""
    return ProjectSettings(body.description or "", body.config or {})


def patched(current: ProjectRecord, body: ProjectPatch) -> ProjectSettings:
    """The writable part with `body`'s changes."""
    return ProjectSettings(
        description=current.description if body.description is None else body.description,
        config={**current.config, **(body.config or {})},
    )


def render(project: ProjectRecord, used_by: list[str]) -> dict[str, object]:
    """A project as clients read it."""
    return {
        "name": project.name,
        "description": project.description,
        "config": project.config,
        "used_by": used_by,
    }


def writable(project: ProjectRecord) -> list[object]:
    """The part that ETags cover."""
    return [project.description, dict(project.config)]


def render_state(resources: Mapping[str, tuple[int, int]]) -> dict[str, object]:
    """Limit and usage of each kind of thing."""
    return {"resources": {name: {"Limit": limit, "Usage": usage} for name, (limit, usage) in resources.items()}}
