import os

import pytest

from lxdpy.drivers.base import Limits
from lxdpy.errors import InvalidRequestError
from lxdpy.services.instances.limits import CHECKS, limits


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Limits()),
        ({"limits.cpu": ""}, Limits()),
        ({"limits.cpu": "2"}, Limits(cpu_count=2)),
        ({"limits.cpu": "3,0-1"}, Limits(cpus=(0, 1, 3))),
        ({"limits.cpu.allowance": "50%"}, Limits(cpu_percent=50)),
        ({"limits.cpu.allowance": "25ms/100ms"}, Limits(cpu_quota_ms=(25, 100))),
        ({"limits.memory": "1GB"}, Limits(memory_bytes=10**9)),
        ({"limits.memory": "64MiB", "limits.memory.enforce": "soft"}, Limits(memory_bytes=64 << 20, memory_soft=True)),
        ({"limits.memory.swap": "false", "limits.processes": "7"}, Limits(swap=False, processes=7)),
    ],
)
def test_limits(config: dict[str, str], expected: Limits) -> None:
    assert limits(config) == expected
    for key, value in config.items():
        if value:
            CHECKS[key](value)


def test_memory_in_percent_of_the_hosts() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert limits({"limits.memory": "25%"}).memory_bytes == total // 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limits.cpu", "0"),
        ("limits.cpu", "3-1"),
        ("limits.cpu", "two"),
        ("limits.cpu", "0,"),
        ("limits.cpu.allowance", "0%"),
        ("limits.cpu.allowance", "101%"),
        ("limits.cpu.allowance", "5ms/2000ms"),
        ("limits.cpu.allowance", "50"),
        ("limits.memory", "0"),
        ("limits.memory", "1 banana"),
        ("limits.memory", "200%"),
        ("limits.memory", "9999999999EB"),
        ("limits.memory.enforce", "maybe"),
        ("limits.memory.swap", "10MB"),
        ("limits.processes", "-1"),
        ("limits.processes", "0"),
    ],
)
def test_bad_values(key: str, value: str) -> None:
    with pytest.raises(InvalidRequestError):
        CHECKS[key](value)
