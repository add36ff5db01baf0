"""What happened, told to whoever listens: the hub behind `GET /1.0/events`.

    {"type": "operation" | "lifecycle" | "logging", "timestamp": ..., "metadata": {...},
     "location": "none", "project": "default"}          (logging events belong to no project)

Publishing never waits: each subscription has a bounded queue, and one that is full is ended.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from lxdpy.project import DEFAULT, project_of_url

QUEUE_SIZE = 1024


class EventType(StrEnum):
    """Kinds of events."""

    OPERATION = "operation"
    LIFECYCLE = "lifecycle"
    LOGGING = "logging"


@dataclass(frozen=True, slots=True)
class Requestor:
    """Who asked for a change."""

    username: str
    protocol: str = "unix"
    address: str = "@"


current_requestor: ContextVar[Requestor | None] = ContextVar("current_requestor", default=None)
"""Set by the HTTP edge for each request; jobs started by the request inherit it."""

current_project: ContextVar[str] = ContextVar("current_project", default=DEFAULT)
"""Set by the HTTP edge for each request: operations that the request starts belong to it."""


def timestamp() -> str:
    """Now, as RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


class Subscription:
    """One listener. `next` gives rendered events in order until the listener was too slow or is closed."""

    def __init__(self, types: frozenset[EventType], project: str | None) -> None:
        self._types = types
        self._project = project
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(QUEUE_SIZE + 1)
        self._ended = False

    async def next(self) -> str | None:
        """The next event as JSON text; None when there will be no more."""
        return await self._queue.get()

    def wants(self, kind: EventType, project: str | None) -> bool:
        """Whether an event of this kind and project belongs here."""
        if self._ended or kind not in self._types:
            return False
        return project is None or self._project is None or project == self._project

    def put(self, text: str) -> None:
        """Queue an event, or end a listener that has fallen too far behind."""
        if self._queue.qsize() >= QUEUE_SIZE:
            self.end()
        else:
            self._queue.put_nowait(text)

    def end(self) -> None:
        """Let the listener drain what is queued, and then see the end."""
        if not self._ended:
            self._ended = True
            self._queue.put_nowait(None)


class Events:
    """The hub."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscribe(
        self, types: Iterable[EventType] = tuple(EventType), *, project: str | None = DEFAULT
    ) -> Iterator[Subscription]:
        """Listen to `types` of `project` (None: of every project) while the block runs."""
        subscription = Subscription(frozenset(types), project)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, kind: EventType, metadata: Mapping[str, object], *, project: str | None = DEFAULT) -> None:
        """Tell every listener; JSON is rendered once, and not at all when nobody listens."""
        listeners = [entry for entry in self._subscriptions if entry.wants(kind, project)]
        if not listeners:
            return
        event = {"type": kind.value, "timestamp": timestamp(), "metadata": metadata, "location": "none"}
        if project is not None:
            event["project"] = project
        text = json.dumps(event, separators=(",", ":"))
        for entry in listeners:
            entry.put(text)

    def lifecycle(
        self,
        action: str,
        source: str,
        context: Mapping[str, object] | None = None,
        requestor: Requestor | None = None,
    ) -> None:
        """Tell that `action` (`instance-started`) happened to `source`, an API path that tells the project.

        Without a requestor it is the one of the request that this code runs for.
        """
        metadata: dict[str, object] = {"action": action, "source": source}
        if context:
            metadata["context"] = context
        if who := requestor or current_requestor.get():
            metadata["requestor"] = {"username": who.username, "protocol": who.protocol, "address": who.address}
        self.publish(EventType.LIFECYCLE, metadata, project=project_of_url(source))

    def close(self) -> None:
        """End every subscription: the daemon stops."""
        for entry in self._subscriptions:
            entry.end()
