"""base.Renderer: each render is a job of a child that is nobody, has little time and little memory."""

import sys
from collections.abc import Mapping, Sequence

from lxdpy.drivers.base import TemplateSource
from lxdpy.drivers.zygote import Zygote
from lxdpy.errors import InvalidRequestError, WorkerError

_ARGV = (sys.executable, "-I", "-m", "lxdpy.workers.templates")
_TIMEOUT_S = 30.0


class TemplateWorkers:
    """The fork server of template workers; it starts with the first job and ends when there was none for a while."""

    def __init__(self) -> None:
        self._zygote = Zygote("template", _ARGV)

    async def render(self, sources: Sequence[TemplateSource], context: Mapping[str, object]) -> tuple[str, ...]:
        """The text of each template. Raises InvalidRequestError, naming the template, WorkerError."""
        request = {
            "files": [
                {"path": source.target, "name": source.name, "text": source.text, "properties": dict(source.properties)}
                for source in sources
            ],
            "context": context,
        }
        with await self._zygote.job(request) as job:
            try:
                message, _ = await job.receive(_TIMEOUT_S)
            except WorkerError as exc:
                names = ", ".join(sorted({source.name for source in sources}))
                raise InvalidRequestError(
                    f"Cannot render templates ({names:.200}): do they take too long? {exc}"
                ) from exc
        texts = message.get("texts")
        if not isinstance(texts, list) or len(texts) != len(sources):
            raise WorkerError(f"The template worker answered {message!r:.200}")
        return tuple(str(text) for text in texts)

    async def close(self) -> None:
        """End the fork server."""
        await self._zygote.close()
