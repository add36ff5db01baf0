"""Instances rendered once and kept until they change, so that a list of hundreds is joined bytes.

What is kept of an instance with its state is the object without that, its last member: it is another at every reading.
"""

from fastapi import Request
from pydantic_core import to_json

from lxdpy.api.schemas import instances as schema
from lxdpy.services.instances import InstanceService, InstanceState


class InstanceViews:
    """JSON of every instance, rendered when first asked for."""

    def __init__(self, instances: InstanceService) -> None:
        self._instances = instances
        self._plain: dict[str, bytes] = {}
        self._heads: dict[str, bytes] = {}
        instances.on_change(self._forget)

    def instance(self, name: str, state: InstanceState | None = None) -> bytes:
        """One instance; with its state, snapshots and backups, if a state is given. Raises NotFoundError."""
        if state is None:
            plain = self._plain.get(name)
            if plain is None:
                plain = self._plain[name] = to_json(schema.render(self._instances.get(name)))
            return plain
        head = self._heads.get(name)
        if head is None:
            instances = self._instances
            body = schema.render_full(instances.get(name), instances.snapshots.all(name), instances.backups.all(name))
            head = self._heads[name] = to_json(body)[:-1]
        return b"".join((head, b',"state":', to_json(schema.render_state(state)), b"}"))

    def _forget(self, name: str) -> None:
        self._plain.pop(name, None)
        self._heads.pop(name, None)


def views(request: Request) -> InstanceViews:
    """The daemon's rendered instances."""
    found: InstanceViews = request.app.state.views
    return found
