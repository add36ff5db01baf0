"""Templates of images, rendered by the template worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template of an image, as it came: nobody vouches for it."""

    target: str
    """The file that it makes."""
    name: str
    text: str
    properties: Mapping[str, str]


class Renderer(Protocol):
    """Renders templates."""

    async def render(self, sources: Sequence[TemplateSource], context: Mapping[str, object]) -> tuple[str, ...]:
        """The text of each template. `context` holds JSON. Raises InvalidRequestError, naming the template."""

    async def close(self) -> None:
        """End the workers."""
