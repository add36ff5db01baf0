import pytest

from lxdpy.daemon import host
from lxdpy.errors import UnsupportedError


@pytest.mark.parametrize("release", ["5.19.0", "6.1.0-44-amd64", "6.18.44-fc-v657", "10.0"])
def test_good_kernels(release: str) -> None:
    host.check(release, 0)


@pytest.mark.parametrize("release", ["5.18.19", "5.4.0-x", "4.19", "", "weird"])
def test_kernels_that_are_too_old(release: str) -> None:
    with pytest.raises(UnsupportedError, match=r"too old.*5\.19"):
        host.check(release, 0)


def test_not_root() -> None:
    with pytest.raises(UnsupportedError, match="must be root"):
        host.check("6.1", 1000)
