"""Which hosts are asked, and how."""

from pathlib import Path

import pytest

from lxdpy.config import Config, RegistryConfig
from lxdpy.drivers.registry.hosts import Host, hosts_of, is_loopback


def _hosts(registry: str, certs_dirs: tuple[Path, ...] = (), **registries: RegistryConfig) -> tuple[Host, ...]:
    configs = {name.replace("_", "."): config for name, config in registries.items()}
    return hosts_of(registry, Config(registries=configs), certs_dirs)


def test_the_hub_has_an_address_of_its_own() -> None:
    (host,) = _hosts("docker.io")
    assert (host.name, host.address, host.schemes, host.verify) == (
        "docker.io",
        "registry-1.docker.io",
        ("https",),
        True,
    )
    assert host.path("library/alpine", "manifests", "3.20") == "/v2/library/alpine/manifests/3.20"


def test_mirrors_come_first_with_settings_of_their_own() -> None:
    mirrors = RegistryConfig(mirrors=("mirror.example", "http://plain.example:5000", "harbor.example/hub/"))
    one, two, three, origin = _hosts("docker.io", docker_io=mirrors, mirror_example=RegistryConfig(skip_verify=True))
    assert [host.name for host in (one, two, three, origin)] == [
        "mirror.example",
        "plain.example:5000",
        "harbor.example",
        "docker.io",
    ]
    assert not one.verify
    assert two.schemes == ("http",)
    assert three.path("library/alpine", "manifests", "1") == "/v2/hub/library/alpine/manifests/1?ns=docker.io"
    assert origin.mirror_of is None


@pytest.mark.parametrize(
    ("config", "schemes", "verify"),
    [
        (RegistryConfig(), ("https",), True),
        (RegistryConfig(plain_http=True), ("http",), True),
        (RegistryConfig(skip_verify=True), ("https",), False),
    ],
)
def test_settings(config: RegistryConfig, schemes: tuple[str, ...], verify: bool) -> None:
    (host,) = _hosts("registry.example", registry_example=config)
    assert (host.schemes, host.verify) == (schemes, verify)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("a.localhost:5000", True),
        ("127.0.0.1", True),
        ("127.3.2.1:5000", True),
        ("[::1]", True),
        ("[::1]:5000", True),
        ("notlocalhost:5000", False),
        ("localhost.example", False),
        ("128.0.0.1", False),
        ("[::2]:5000", False),
        ("registry.example", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
    (host,) = _hosts(address)
    assert host.schemes == (("https", "http") if loopback else ("https",))
    assert host.verify is not loopback


def test_certificates_where_docker_and_podman_keep_them(tmp_path: Path) -> None:
    first, second = tmp_path / "containers", tmp_path / "docker"
    for directory in (first, second):
        (directory / "registry.example:5000").mkdir(parents=True)
    (first / "registry.example:5000/ca.crt").touch()
    (second / "registry.example:5000/client.cert").touch()
    (host,) = _hosts("registry.example:5000", (first, second))
    assert host.ca_file == str(first / "registry.example:5000")
    assert host.client_cert == str(second / "registry.example:5000/client.cert")
    assert host.client_key == str(second / "registry.example:5000/client.key")
    (other,) = _hosts("registry.example", (first, second))
    assert other.ca_file is None


def test_loopback_with_a_ca_is_verified(tmp_path: Path) -> None:
    (tmp_path / "localhost:5000").mkdir()
    (tmp_path / "localhost:5000/ca.crt").touch()
    (host,) = _hosts("localhost:5000", (tmp_path,))
    assert host.verify
    assert host.schemes == ("https",)


def test_the_configuration_wins_over_certificates(tmp_path: Path) -> None:
    (tmp_path / "registry.example").mkdir()
    (tmp_path / "registry.example/ca.crt").touch()
    (host,) = _hosts("registry.example", (tmp_path,), registry_example=RegistryConfig(ca_file="/other.pem"))
    assert host.ca_file == "/other.pem"
