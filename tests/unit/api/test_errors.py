"""Every error of ours has its HTTP status."""

import json
import logging

import pytest
from starlette.requests import ClientDisconnect

from lxdpy import errors
from lxdpy.api.errors import HTTP_STATUS, answer, http_status


def _all(kind: type[errors.LxdpyError]) -> set[type[errors.LxdpyError]]:
    return {kind}.union(*(_all(child) for child in kind.__subclasses__() if child.__module__ == errors.__name__))


def test_the_table_is_whole() -> None:
    assert set(HTTP_STATUS) == _all(errors.LxdpyError) - {errors.LxdpyError}


def test_nearest_class_counts() -> None:
    class OddError(errors.BusyError):
        pass

    assert http_status(OddError("x")) == 409
    assert http_status(errors.LxdpyError("x")) == 500


def test_a_client_that_left_is_no_surprise(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert answer(ClientDisconnect()).status_code == 400
    assert caplog.records == []


def test_surprise_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = answer(ValueError("secret"))
    assert response.status_code == 500
    assert b"secret" not in bytes(response.body)
    assert json.loads(bytes(response.body))["error_code"] == 500
    assert caplog.records[0].exc_info is not None
