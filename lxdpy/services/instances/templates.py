"""Templates of an instance, as metadata.yaml says when they are due, rendered for a start.

An instance that was made, copied or renamed remembers so until it starts (`volatile.apply_template`); then the
templates of that trigger are due, and after them those that are at every start.

cloud-init in an instance runs once for each instance id: a copy, another name and other data have another one.
"""

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path

from lxdpy.db.instances import Devices, InstanceRecord
from lxdpy.drivers.base import Renderer, TemplateFile, TemplateSource
from lxdpy.errors import InvalidRequestError, NotFoundError
from lxdpy.image_metadata import Template
from lxdpy.project import plain_name
from lxdpy.services.instances import metadata

APPLY = "volatile.apply_template"
TRIGGERS = ("create", "copy", "rename")
_START = "start"
_INSTANCE_ID = "volatile.cloud-init.instance-id"
_CLOUD_INIT_KEYS = (
    "cloud-init.network-config",
    "cloud-init.user-data",
    "cloud-init.vendor-data",
    "user.meta-data",
    "user.network-config",
    "user.user-data",
    "user.vendor-data",
)


def new_instance_id() -> dict[str, str]:
    """The configuration of an instance in which cloud-init is to run, anew."""
    return {_INSTANCE_ID: str(uuid.uuid4())}


def instance_id_for(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The configuration that a change needs besides: another instance id where cloud-init has other data to work on."""
    if any(before.get(key, "") != after.get(key, "") for key in _CLOUD_INIT_KEYS):
        return new_instance_id()
    return {}


class Templates:
    """Renders instances' templates."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    async def due(
        self, record: InstanceRecord, directory: Path, config: Mapping[str, str], devices: Devices, *, privileged: bool
    ) -> tuple[TemplateFile, ...]:
        """The files that a start of this instance is to write first, in order; `config` and `devices` are expanded.

        Raises InvalidRequestError for a template that is missing or can't be rendered, WorkerError.
        """
        found = await asyncio.to_thread(_find, directory, record.config.get(APPLY, ""))
        instance = {
            "name": plain_name(record.name),
            "type": "container",
            "architecture": record.architecture,
            "ephemeral": "true" if record.ephemeral else "false",
            "privileged": "true" if privileged else "false",
        }
        files: list[TemplateFile] = []
        for trigger, templates, sources in found:
            context = {
                "trigger": trigger,
                # Images of before there were virtual machines say "container".
                "container": instance,
                "instance": instance,
                "config": dict(config),
                "devices": {name: dict(device) for name, device in devices.items()},
            }
            texts = await self._renderer.render(sources, context)
            files += [
                TemplateFile(source.target, text, template.create_only)
                for source, template, text in zip(sources, templates, texts, strict=True)
            ]
        return tuple(files)


def _find(directory: Path, deferred: str) -> list[tuple[str, list[Template], list[TemplateSource]]]:
    """Each trigger that has fired, with its templates."""
    kept = metadata.read(directory)
    found = []
    for trigger in (deferred, _START) if deferred else (_START,):
        due = [(path, one) for path, one in kept.templates.items() if trigger in one.when] if kept else []
        if due:
            sources = [
                TemplateSource("/" + path.lstrip("/"), one.template, _text(directory, path, one), one.properties)
                for path, one in due
            ]
            found.append((trigger, [one for _, one in due], sources))
    return found


def _text(directory: Path, path: str, template: Template) -> str:
    attempt = f'Cannot render template "{template.template}" for {path}'
    try:
        return metadata.read_template(directory, template.template).decode()
    except (NotFoundError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"{attempt}: {exc}") from exc
