"""Answers have LXD's exact shapes."""

import asyncio
import json

from lxdpy.api import envelope
from lxdpy.operations import Operation

KEYS = {"type", "status", "status_code", "operation", "error_code", "error", "metadata"}


def test_sync() -> None:
    response = envelope.sync({"name": "web"}, etag='"1"')
    body = bytes(response.body)
    assert body.endswith(b"}\n")
    assert json.loads(body) == {
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": {"name": "web"},
    }
    assert response.headers["etag"] == '"1"'
    assert response.headers["content-type"] == "application/json"


def test_empty_and_created() -> None:
    assert json.loads(bytes(envelope.empty().body))["metadata"] == {}
    response = envelope.created("/1.0/profiles/web")
    assert response.status_code == 201
    assert response.headers["location"] == "/1.0/profiles/web"
    body = json.loads(bytes(response.body))
    assert set(body) == KEYS
    assert body["metadata"] is None


def test_accepted() -> None:
    async def main() -> None:
        operation = Operation("Creating instance", {"instances": ["/1.0/instances/web"]}, None, may_cancel=True)
        response = envelope.accepted(operation)
        body = json.loads(bytes(response.body))
        assert response.status_code == 202
        assert set(body) == KEYS
        assert (body["type"], body["status"], body["status_code"]) == ("async", "Operation created", 100)
        assert response.headers["location"] == body["operation"] == f"/1.0/operations/{operation.id}"
        assert body["metadata"] == operation.render()
        operation.project = "blue"
        assert envelope.accepted(operation).headers["location"].endswith("?project=blue")
        operation.project = "a\r\nX-Evil: b"
        assert envelope.accepted(operation).headers["location"].endswith("?project=a%0D%0AX-Evil%3A%20b")

    asyncio.run(main())


def test_error() -> None:
    response = envelope.error(404, "Instance not found")
    assert response.status_code == 404
    assert response.headers["x-content-type-options"] == "nosniff"
    assert json.loads(bytes(response.body)) == {
        "type": "error",
        "status": "",
        "status_code": 0,
        "operation": "",
        "error_code": 404,
        "error": "Instance not found",
        "metadata": None,
    }
