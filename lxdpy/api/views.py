"""Instances rendered once and kept until they change, so that a list of hundreds is joined bytes.

What is kept is the object without its last member, `state`, which is another one at every reading.
"""

from fastapi import Request
from pydantic_core import to_json

from lxdpy.api.schemas import instances as schema
from lxdpy.services.instances import InstanceService, InstanceState

_NO_STATE = b',"state":null}'


class InstanceViews:
    """JSON of every instance, rendered when first asked for."""

    def __init__(self, instances: InstanceService) -> None:
        self._instances = instances
        self._heads: dict[str, bytes] = {}
        self._full_heads: dict[str, bytes] = {}
        instances.on_change(self._forget)

    def instance(self, name: str, state: InstanceState | None = None) -> bytes:
        """One instance; with its state and snapshots, if a state is given. Raises NotFoundError."""
        heads = self._heads if state is None else self._full_heads
        head = heads.get(name)
        if head is None:
            body = schema.render(
                self._instances.get(name), () if state is None else self._instances.snapshots.all(name)
            )
            del body["state"]
            head = heads[name] = to_json(body)[:-1]
        if state is None:
            return head + _NO_STATE
        return b"".join((head, b',"state":', to_json(schema.render_state(state)), b"}"))

    def _forget(self, name: str) -> None:
        self._heads.pop(name, None)
        self._full_heads.pop(name, None)


def views(request: Request) -> InstanceViews:
    """The daemon's rendered instances."""
    found: InstanceViews = request.app.state.views
    return found
