"""The daemon's JSON as records."""

import pytest

from lxdpy.client import Exit, InstanceRecord, InstanceState, OperationFailed, OperationRecord


def operation(**fields: object) -> OperationRecord:
    return OperationRecord.parse({"id": "x", "status_code": 103, **fields})


def test_nulls_and_missing_fields_are_neutral() -> None:
    record = operation(resources=None, metadata=None)
    assert (record.final, record.layers, record.progress, record.resource("instances")) == (False, (), "", "")
    assert InstanceRecord.parse({"name": "a", "config": None, "state": None}).state is None
    assert InstanceState.parse({"network": None, "memory": None}).addresses == ()


def test_resource_takes_the_first_kind_there_is() -> None:
    record = operation(resources={"containers": ["/1.0/containers/web?project=p"]})
    assert record.resource("instances", "containers") == "web"


def test_failure_without_an_error_code_is_400() -> None:
    record = operation(status_code=400, err="why")
    with pytest.raises(OperationFailed, match="why") as caught:
        record.raise_for_status()
    assert caught.value.error_code == 400
    assert operation(status_code=400, metadata={"error_code": 409}).error_code == 409


def test_any_progress_text_counts() -> None:
    assert operation(metadata={"create_instance_from_image_unpack_progress": "Unpack: 5%"}).progress == "Unpack: 5%"


@pytest.mark.parametrize(
    ("ended", "code"), [(Exit("", 3, None), 3), (Exit("", None, 9), 137), (Exit("", None, None), 0)]
)
def test_shell_code(ended: Exit, code: int) -> None:
    assert ended.shell_code == code


def test_loopback_and_link_addresses_do_not_count() -> None:
    entry = {"address": "fe80::1", "scope": "link"}
    networks = {
        "lo": {"addresses": [{"address": "127.0.0.1", "scope": "local"}]},
        "eth0": {"addresses": [entry, {"address": "10.0.0.2", "scope": "global"}]},
    }
    assert InstanceState.parse({"network": networks}).addresses == ("10.0.0.2",)
