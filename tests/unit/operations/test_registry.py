"""Operations: states, results, failures, cancelling, draining."""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from lxdpy.api.errors import http_status
from lxdpy.errors import BusyError, InvalidRequestError, NotFoundError, ShuttingDownError
from lxdpy.operations import Events, Operation, OperationProgress, Operations, Status, registry
from lxdpy.progress import LayerProgress, LayerState


def make() -> Operations:
    return Operations(Events(), error_code=http_status)


async def succeed(progress: OperationProgress) -> Mapping[str, object]:
    return {"return": 0}


async def forever(progress: OperationProgress) -> None:
    await asyncio.Event().wait()


def fail_with(error: BaseException) -> registry.Run:
    async def run(progress: OperationProgress) -> None:
        raise error

    return run


async def end(operations: Operations, run: registry.Run) -> Operation:
    operation = operations.start("Test", run, resources={})
    assert await operation.wait(10)
    return operation


def test_success() -> None:
    async def main() -> None:
        operations = make()
        operation = operations.start(
            "Test", succeed, resources={"instances": ["/1.0/instances/web"]}, metadata={"command": ["true"]}
        )
        body = operation.render()
        assert body["status"] == "Running"
        assert body["status_code"] == 103
        assert body["class"] == "task"
        assert body["resources"] == {"instances": ["/1.0/instances/web"]}
        assert await operation.wait(10)
        body = operation.render()
        assert (body["status"], body["status_code"], body["err"]) == ("Success", 200, "")
        assert body["metadata"] == {"command": ["true"], "return": 0}
        assert set(body) == {
            *("id", "class", "description", "created_at", "updated_at", "status", "status_code"),
            *("resources", "metadata", "may_cancel", "err", "location"),
        }
        assert operations.get(operation.id) is operation

    asyncio.run(main())


def test_events_follow_the_states() -> None:
    async def main() -> list[str]:
        events = Events()
        operations = Operations(events, error_code=http_status)
        with events.subscribe() as subscription:
            await end(operations, succeed)
            events.close()
            texts = []
            while (text := await subscription.next()) is not None:
                texts.append(text)
        return texts

    texts = asyncio.run(main())
    assert [word for text in texts for word in ("Pending", "Running", "Success") if f'"{word}"' in text] == [
        "Pending",
        "Running",
        "Success",
    ]


def test_our_errors_are_told() -> None:
    async def main() -> None:
        operation = await end(make(), fail_with(BusyError('Instance "web" is busy')))
        assert operation.status is Status.FAILURE
        assert operation.err == 'Instance "web" is busy'
        assert operation.metadata == {"error_code": 409}

    asyncio.run(main())


@pytest.mark.parametrize("error", [ValueError("secret"), asyncio.CancelledError()])
def test_surprises_go_to_the_log_only(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Operation:
        return await end(make(), fail_with(error))

    with caplog.at_level(logging.ERROR):
        operation = asyncio.run(main())
    assert operation.status is Status.FAILURE
    assert operation.err == f"Internal error (operation {operation.id})"
    assert operation.metadata == {"error_code": 500}
    assert caplog.records[0].exc_info is not None


def test_cancel_waits_for_clean_up() -> None:
    async def main() -> None:
        operations = make()
        cleaned = False

        async def run(progress: OperationProgress) -> None:
            nonlocal cleaned
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.02)
                cleaned = True

        operation = operations.start("Test", run, resources={}, cancellable=True)
        await asyncio.sleep(0)
        await operations.cancel(operation.id)
        assert cleaned
        assert operation.status is Status.CANCELLED
        with pytest.raises(InvalidRequestError, match="can't be cancelled"):
            await operations.cancel(operation.id)

    asyncio.run(main())


def test_cancel_before_the_first_step() -> None:
    async def main() -> None:
        operations = make()
        operation = operations.start("Test", forever, resources={}, cancellable=True)
        await operations.cancel(operation.id)
        assert operation.status is Status.CANCELLED

    asyncio.run(main())


def test_some_can_not_be_cancelled() -> None:
    async def main() -> None:
        operations = make()
        operation = operations.start("Test", forever, resources={})
        with pytest.raises(InvalidRequestError, match="can't be cancelled"):
            await operations.cancel(operation.id)
        assert not await operation.wait(0.01)
        await operations.drain(0)
        assert operation.status is Status.CANCELLED

    asyncio.run(main())


def test_too_late_to_cancel() -> None:
    async def main() -> None:
        operations = make()

        async def run(progress: OperationProgress) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

        operation = operations.start("Test", run, resources={}, cancellable=True)
        await asyncio.sleep(0)
        await operations.cancel(operation.id)
        assert operation.status is Status.SUCCESS

    asyncio.run(main())


def test_drain_refuses_waits_and_cancels() -> None:
    async def main() -> None:
        operations = make()

        async def soon(progress: OperationProgress) -> None:
            await asyncio.sleep(0.02)

        quick = operations.start("Quick", soon, resources={})
        slow = operations.start("Slow", forever, resources={})
        await operations.drain(0.2)
        assert quick.status is Status.SUCCESS
        assert slow.status is Status.CANCELLED
        with pytest.raises(ShuttingDownError):
            operations.start("Late", forever, resources={})

    asyncio.run(main())


def test_gone_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        operations = make()
        operation = await end(operations, succeed)
        assert operations.by_status() == {"success": [operation]}
        await asyncio.sleep(0.05)
        assert operations.list() == []
        with pytest.raises(NotFoundError, match="Operation not found"):
            operations.get(operation.id)

    monkeypatch.setattr(registry, "KEEP_S", 0.02)
    asyncio.run(main())


def test_projects() -> None:
    async def main() -> None:
        operations = make()
        operations.start("Test", forever, resources={}, project="other")
        assert operations.by_status(project="default") == {}
        assert list(operations.by_status(project="other")) == ["running"]
        await operations.drain(0)

    asyncio.run(main())


def test_progress_is_throttled_and_never_lost() -> None:
    async def main() -> None:
        events = Events()
        operations = Operations(events, error_code=http_status)

        async def run(progress: OperationProgress) -> None:
            progress.layer(LayerProgress("sha256:a", 10, 10, LayerState.EXISTS))
            for done in range(0, 2_000_001, 1000):
                progress.layer(LayerProgress("sha256:b", 2_000_000, done, LayerState.DOWNLOADING))
                await asyncio.sleep(0)
            progress.note({"unpack_progress": "half"})
            progress.layer(LayerProgress("sha256:b", 2_000_000, 2_000_000, LayerState.DONE))

        with events.subscribe() as subscription:
            operation = await end(operations, run)
            events.close()
            count = 0
            while await subscription.next() is not None:
                count += 1
        assert count < 100
        assert operation.metadata is not None
        assert operation.metadata["unpack_progress"] == "half"
        assert operation.metadata["layers"] == [
            {"digest": "sha256:a", "size": 10, "done": 10, "state": "exists"},
            {"digest": "sha256:b", "size": 2_000_000, "done": 2_000_000, "state": "done"},
        ]
        text = operation.metadata["download_progress"]
        assert isinstance(text, str)
        assert text.startswith("2/2 layers, 2.0MB/2.0MB (")
        assert text.endswith("MB/s)")

    asyncio.run(main())
