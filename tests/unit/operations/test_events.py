"""Events: who hears what, and what becomes of the slow."""

import asyncio
import json

from lxdpy.operations import Events, EventType, Requestor, current_requestor
from lxdpy.operations.events import QUEUE_SIZE


def test_lifecycle_event() -> None:
    async def main() -> None:
        events = Events()
        with events.subscribe() as subscription:
            events.lifecycle("instance-started", "/1.0/instances/web", {"pid": 1}, Requestor("root"))
            event = json.loads(await subscription.next() or "")
        timestamp = event.pop("timestamp")
        assert timestamp.endswith("Z")
        assert event == {
            "type": "lifecycle",
            "location": "none",
            "project": "default",
            "metadata": {
                "action": "instance-started",
                "source": "/1.0/instances/web",
                "context": {"pid": 1},
                "requestor": {"username": "root", "protocol": "unix", "address": "@"},
            },
        }

    asyncio.run(main())


def test_requestor_of_the_request_that_is_served() -> None:
    async def main() -> None:
        events = Events()
        with events.subscribe() as subscription:
            current_requestor.set(Requestor("alice"))
            await asyncio.create_task(_announce(events))
            event = json.loads(await subscription.next() or "")
        assert event["metadata"]["requestor"]["username"] == "alice"

    asyncio.run(main())


async def _announce(events: Events) -> None:
    events.lifecycle("instance-created", "/1.0/instances/web")


def test_types_and_projects() -> None:
    async def main() -> None:
        events = Events()
        with (
            events.subscribe([EventType.LIFECYCLE]) as lifecycle,
            events.subscribe(project="other") as other,
            events.subscribe(project=None) as everything,
        ):
            events.publish(EventType.OPERATION, {"n": 1}, project="default")
            events.publish(EventType.LIFECYCLE, {"n": 2}, project="default")
            events.publish(EventType.LIFECYCLE, {"n": 3}, project="other")
            events.publish(EventType.LOGGING, {"n": 4}, project=None)
            events.close()
            assert await _numbers(lifecycle) == [2]
            assert await _numbers(other) == [3, 4]
            assert await _numbers(everything) == [1, 2, 3, 4]

    asyncio.run(main())


def test_a_slow_listener_is_ended_and_disturbs_nobody() -> None:
    async def main() -> None:
        events = Events()
        with events.subscribe() as slow, events.subscribe() as quick:
            for number in range(QUEUE_SIZE + 10):
                events.publish(EventType.LIFECYCLE, {"n": number})
                assert await quick.next() is not None
            assert len(await _numbers(slow)) == QUEUE_SIZE

    asyncio.run(main())


async def _numbers(subscription: object) -> list[int]:
    numbers = []
    while (text := await subscription.next()) is not None:  # type: ignore[attr-defined]
        numbers.append(json.loads(text)["metadata"]["n"])
    return numbers
