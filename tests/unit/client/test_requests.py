"""Requests and answers without a server."""

import json

import pytest

from lxdpy.client import Conflict, LXDError, NotFound, PreconditionFailed
from lxdpy.client.requests import image_source, instances_post, parse_answer, path, state_put, window_resize


def envelope(**fields: object) -> bytes:
    return json.dumps({"type": "sync", "metadata": {}, **fields}).encode()


def test_paths_escape_names_with_slashes() -> None:
    assert path("images", "aliases", "ghcr.io/a/b:1") == "/1.0/images/aliases/ghcr.io%2Fa%2Fb%3A1"


@pytest.mark.parametrize(
    ("image", "source"),
    [
        ("alpine:3.20", {"type": "image", "mode": "pull", "protocol": "oci", "alias": "alpine:3.20"}),
        ("a" * 64, {"type": "image", "fingerprint": "a" * 64}),
        ("deadbeef", {"type": "image", "mode": "pull", "protocol": "oci", "alias": "deadbeef"}),
    ],
)
def test_image_source(image: str, source: dict[str, str]) -> None:
    assert image_source(image) == source


def test_a_server_is_only_named_for_a_pull() -> None:
    assert image_source("alpine", "https://mirror")["server"] == "https://mirror"
    assert "server" not in image_source("a" * 64, "https://mirror")


@pytest.mark.parametrize(
    ("code", "kind"), [(404, NotFound), (409, Conflict), (412, PreconditionFailed), (500, LXDError)]
)
def test_error_answers(code: int, kind: type[LXDError]) -> None:
    with pytest.raises(kind, match="why") as caught:
        parse_answer(code, envelope(type="error", error="why", error_code=code))
    assert caught.value.status == code


def test_what_is_no_answer_of_lxd() -> None:
    for body in (b"<html>", b"[]", b"{}", b""):
        with pytest.raises(LXDError, match="HTTP 502 is not an answer"):
            parse_answer(502, body)


def test_only_async_answers_have_an_operation() -> None:
    assert parse_answer(202, envelope(type="async", operation="/1.0/operations/x")).operation == "/1.0/operations/x"
    assert parse_answer(200, envelope(operation="")).operation == ""


def test_named_options_win_over_config() -> None:
    request = instances_post({}, "n", config={"environment.A": "1", "oci.cwd": "/"}, environment={"A": "2"}, cwd="/x")
    assert isinstance(request.body, dict)
    assert request.body["config"] == {"environment.A": "2", "oci.cwd": "/x"}
    assert "profiles" not in request.body


def test_no_timeout_is_lxds_minus_one() -> None:
    body = state_put("web", "stop").body
    assert body == {"action": "stop", "timeout": -1, "force": False, "stateful": False}


def test_window_size_is_text_on_the_wire() -> None:
    assert json.loads(window_resize(99, 33))["args"] == {"width": "99", "height": "33"}
