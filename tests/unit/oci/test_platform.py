"""Which platform runs images of which other."""

import pytest

from lxdpy.oci.platform import Platform


def _platform(text: str) -> Platform:
    return Platform(*text.split("/"))


@pytest.mark.parametrize(
    ("wanted", "offered", "distance"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/amd64", "linux/amd64/v1", 0),
        ("linux/amd64", "linux/amd64/v3", None),
        ("linux/amd64/v3", "linux/amd64", 2),
        ("linux/amd64", "linux/x86_64", 0),
        ("linux/amd64", "linux/386", None),
        ("linux/amd64", "windows/amd64", None),
        ("linux/arm64", "linux/arm64/v8", 0),
        ("linux/arm64/v8", "linux/arm64", 0),
        ("linux/arm64/v8", "linux/aarch64", 0),
        ("linux/arm64/v8", "linux/arm64/8", 0),
        ("linux/arm64/v9", "linux/arm64", 1),
        ("linux/arm64/v8", "linux/arm/v7", None),
        ("linux/arm", "linux/arm/v7", 0),
        ("linux/arm/v7", "linux/arm/v6", 1),
        ("linux/arm/v7", "linux/arm/v5", 2),
        ("linux/arm/v6", "linux/arm/v7", None),
        ("linux/arm/v6", "linux/armhf", None),
        ("linux/arm/v7", "linux/armel", 1),
        ("linux/arm/v7", "linux/arm/odd", None),
        ("linux/s390x", "Linux/S390X", 0),
    ],
)
def test_distance(wanted: str, offered: str, distance: int | None) -> None:
    assert _platform(wanted).distance(_platform(offered)) == distance
