"""Projects: what belongs together, and is told apart from the rest by its name."""

from lxdpy.services.projects.service import ProjectService, ProjectSettings
from lxdpy.services.projects.settings import Feature

__all__ = ["Feature", "ProjectService", "ProjectSettings"]
