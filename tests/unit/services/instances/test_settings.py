import signal

import pytest

from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services.instances import settings


@pytest.mark.parametrize("name", ["a", "web-1", "A9", "x" * 63])
def test_good_names(name: str) -> None:
    settings.check_name(name)


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "a_b", "a.b", "a/b", "..", "x" * 64, "a\n", "ä", "a b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid instance name"):
        settings.check_name(name)


@pytest.mark.parametrize(
    "config",
    [
        {"environment.FOO": "bar baz"},
        {"environment.EMPTY": ""},
        {"oci.entrypoint": "/bin/sh -c 'echo hi'"},
        {"oci.cwd": "/tmp", "oci.uid": "0", "oci.gid": "4294967294"},
        {"oci.user": "nobody:nogroup", "oci.stop_signal": "SIGRTMIN+3"},
        {"security.privileged": "true"},
        {"user.user-data": "#cloud-config\nx: 1\n"},
        {"oci.cmd": ""},
    ],
)
def test_good_config(config: dict[str, str]) -> None:
    settings.check_config(config)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"environment.FOO": "a\nlxc.hook.start-host=/bin/sh"}, "line break"),
        ({"environment.FOO": "a\rb"}, "line break"),
        ({"environment.FOO": "a\0b"}, "NUL"),
        ({"environment.A=B": "x"}, "environment variable name"),
        ({"environment.": "x"}, "environment variable name"),
        ({"user.a\nb": "x"}, "line break in key"),
        ({"oci.cwd": "relative"}, "absolute"),
        ({"oci.uid": "-1"}, "number"),
        ({"oci.uid": "4294967295"}, "number"),
        ({"oci.uid": "root"}, "number"),
        ({"oci.user": "a b"}, "expected NAME"),
        ({"oci.entrypoint": "'unclosed"}, "No closing quotation"),
        ({"oci.entrypoint": "  "}, "no word"),
        ({"oci.stop_signal": "SIGNOPE"}, "Invalid signal"),
        ({"security.privileged": "maybe"}, "boolean"),
        ({"raw.lxc": "lxc.hook.start-host=/x"}, "Unknown configuration key: raw.lxc"),
        ({"limits.memory": "1 banana"}, "limits.memory: expected a size"),
        ({"limits.hugepages.2MB": "1GB"}, "Unknown configuration key: limits.hugepages"),
    ],
)
def test_bad_config(config: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        settings.check_config(config)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", signal.SIGTERM),
        ("term", signal.SIGTERM),
        ("3", signal.SIGQUIT),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert settings.parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIG", "SIGRTMIN+99", "RTMAX+1", "-9", "9; reboot"])
def test_bad_signals(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid signal"):
        settings.parse_signal(text)


def test_good_devices() -> None:
    settings.check_devices(
        {
            "eth0": {"type": "nic", "network": "lxdpybr0", "ipv4.address": "10.76.0.9", "hwaddr": "00:16:3e:00:00:01"},
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "eth1": {"type": "none"},
        }
    )


@pytest.mark.parametrize(
    ("device", "kind", "text"),
    [
        ({"type": "gpu"}, UnsupportedError, "gpu"),
        ({}, UnsupportedError, "None"),
        ({"type": "disk", "path": "/", "source": "/etc", "pool": "default"}, InvalidRequestError, "Root disk"),
        ({"type": "disk", "path": "/"}, InvalidRequestError, "Root disk"),
        ({"type": "disk", "path": "/", "pool": "default", "size": "1GiB"}, UnsupportedError, "quotas"),
        ({"type": "disk", "path": "/data"}, InvalidRequestError, "source"),
        ({"type": "disk", "source": "/data"}, InvalidRequestError, "path"),
        ({"type": "disk", "source": "data", "path": "/data"}, InvalidRequestError, "absolute"),
        ({"type": "disk", "source": "/data", "path": "/data", "pool": "default"}, InvalidRequestError, "volumes"),
        ({"type": "disk", "source": "tmpfs:", "path": "/data"}, UnsupportedError, "tmpfs"),
        ({"type": "disk", "source": "/data", "path": "/a/../../b"}, InvalidRequestError, "Invalid path"),
        ({"type": "disk", "source": "/data", "path": "//."}, InvalidRequestError, "Invalid path"),
        ({"type": "disk", "source": "/data", "path": "/data", "readonly": "maybe"}, InvalidRequestError, "readonly"),
        ({"type": "disk", "source": "/data", "path": "/data", "bogus": "1"}, InvalidRequestError, "bogus"),
        ({"type": "disk", "source": "/data", "path": "/data", "propagation": "rshared"}, UnsupportedError, "rshared"),
        ({"type": "disk", "source": "/data", "path": "/data", "limits.max": "1MB"}, UnsupportedError, "limits.max"),
        ({"type": "nic"}, InvalidRequestError, "network"),
        ({"type": "nic", "parent": "b", "nictype": "sriov"}, UnsupportedError, "sriov"),
        ({"type": "nic", "network": "b", "nictype": "macvlan"}, InvalidRequestError, "nictype"),
        ({"type": "nic", "nictype": "macvlan"}, InvalidRequestError, "parent"),
        ({"type": "nic", "nictype": "p2p", "parent": "b"}, InvalidRequestError, "parent"),
        ({"type": "nic", "network": "b", "ipv6.address": "10.0.0.1"}, InvalidRequestError, "ipv6.address"),
        ({"type": "nic", "network": "b", "hwaddr": "xx"}, InvalidRequestError, "hwaddr"),
        ({"type": "nic", "network": "b", "name": "a b"}, InvalidRequestError, "name"),
        ({"type": "nic", "network": "b", "name": "x" * 16}, InvalidRequestError, "name"),
        ({"type": "nic", "network": "b", "ipv4.address": "10.0.0.1/8"}, InvalidRequestError, "ipv4.address"),
        ({"type": "nic", "network": "b", "mtu": "big"}, InvalidRequestError, "mtu"),
        ({"type": "nic", "network": "b\nlxc.hook.start-host=/x"}, InvalidRequestError, "line break"),
        ({"type": "nic", "network": "b", "raw": "x"}, InvalidRequestError, "unknown key 'raw'"),
    ],
)
def test_bad_devices(device: dict[str, str], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        settings.check_devices({"eth0": device})
