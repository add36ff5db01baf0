"""Keys that the daemon writes."""

import pytest

from lxdpy.errors import InvalidRequestError
from lxdpy.services.instances import volatile

CURRENT = {
    "volatile.uuid": "5f2b6f3e-93a5-4fd0-9f0b-3e4d1d9d0c11",
    "volatile.last_state.power": "RUNNING",
    "volatile.container.oci": "true",
    "volatile.eth0.host_name": "veth1",
    "volatile.eth0.hwaddr": "00:16:3e:00:00:01",
    "user.a": "1",
}


@pytest.mark.parametrize(
    "key",
    [
        *CURRENT.keys() - {"user.a"},
        "volatile.base_image",
        "volatile.idmap.next",
        "volatile.my.nic.hwaddr",
        "volatile.eth0.last_state.created",
        "volatile.cloud-init.instance-id",
    ],
)
def test_known(key: str) -> None:
    volatile.check(key, CURRENT.get(key, ""))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("volatile.nonsense", "1"),
        ("volatile.", ""),
        ("volatile.uuid", "1"),
        ("volatile.eth0.hwaddr", "nonsense"),
        ("volatile.eth0.host_name", "a/b"),
        ("volatile.apply_template", "never"),
        ("volatile.uuid\n", ""),
    ],
)
def test_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid config"):
        volatile.check(key, value)


def test_what_a_client_leaves_out_stays_where_it_must() -> None:
    kept = {key: value for key, value in CURRENT.items() if key not in ("user.a", "volatile.eth0.hwaddr")}
    assert volatile.merged(CURRENT, running=False, given={}) == kept
    assert volatile.merged(CURRENT, running=True, given={}) == {**kept, "volatile.eth0.hwaddr": "00:16:3e:00:00:01"}


def test_what_is_the_daemons_own_cannot_be_given() -> None:
    given = {"volatile.last_state.power": "STOPPED", "volatile.eth0.host_name": "x", "volatile.eth1.host_name": "y"}
    merged = volatile.merged(CURRENT, running=False, given=given)
    assert merged["volatile.last_state.power"] == "RUNNING"
    assert merged["volatile.eth0.host_name"] == "veth1"
    assert "volatile.eth1.host_name" not in merged
