"""https: whom to believe, what to show; http only where it is allowed."""

import shutil
from pathlib import Path

import pytest

from lxdpy.config import RegistryConfig
from lxdpy.errors import RegistryError
from tests.fakes.certificates import Certificates
from tests.fakes.registry import FaultyRegistry, Redirect, error
from tests.integration.registry.conftest import Puller


def test_loopback_needs_no_certificate_that_is_known(puller: Puller, certificates: Certificates) -> None:
    with FaultyRegistry(tls=certificates.server_context()) as registry:
        registry.add_image("org/app", "1")
        assert puller.resolve(f"{registry.host}/org/app:1").endpoint == registry.url
        assert registry.url.startswith("https://")


def test_what_is_configured_is_verified(puller: Puller, certificates: Certificates, tmp_path: Path) -> None:
    with FaultyRegistry(tls=certificates.server_context()) as registry:
        registry.add_image("org/app", "1")
        puller.registries[registry.host] = RegistryConfig(ca_file=str(certificates.ca))
        puller.resolve(f"{registry.host}/org/app:1")
        other = tmp_path / "other.crt"
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", other)
        puller.registries[registry.host] = RegistryConfig(ca_file=str(other))
        with pytest.raises(RegistryError, match=r"its certificate is not valid: .* \(ca_file names its CA\)"):
            puller.resolve(f"{registry.host}/org/app:1")
        puller.registries[registry.host] = RegistryConfig(ca_file=str(other), skip_verify=True)
        puller.resolve(f"{registry.host}/org/app:1")


def test_certificates_where_docker_keeps_them(puller: Puller, certificates: Certificates) -> None:
    with FaultyRegistry(tls=certificates.server_context(ask_client=True)) as registry:
        registry.add_image("org/app", "1")
        directory = puller.home / "certs.d" / registry.host
        directory.mkdir(parents=True)
        shutil.copy(certificates.ca, directory / "ca.crt")
        with pytest.raises(RegistryError, match=f"Cannot reach {registry.host}"):
            puller.resolve(f"{registry.host}/org/app:1")
        shutil.copy(certificates.client, directory / "client.cert")
        shutil.copy(certificates.client_key, directory / "client.key")
        puller.resolve(f"{registry.host}/org/app:1")


def test_plain_http_where_https_is_wanted(puller: Puller, registry: FaultyRegistry, certificates: Certificates) -> None:
    puller.registries[registry.host] = RegistryConfig(ca_file=str(certificates.ca))
    with pytest.raises(RegistryError, match=f"Cannot reach {registry.host}: no TLS with it.*plain_http"):
        puller.resolve(f"{registry.host}/org/app:1")
    assert registry.requests == []


def test_https_is_not_left_for_http(puller: Puller, registry: FaultyRegistry, certificates: Certificates) -> None:
    with FaultyRegistry(tls=certificates.server_context()) as secure:
        secure.fault("manifests", Redirect(f"{registry.url}{{target}}"))
        with pytest.raises(RegistryError, match="it leads from https to http"):
            puller.resolve(f"{secure.host}/org/app:1")
        assert registry.requests == []


def test_passwords_are_not_sent_to_a_realm_on_http(
    puller: Puller, registry: FaultyRegistry, certificates: Certificates
) -> None:
    with FaultyRegistry(tls=certificates.server_context()) as secure:
        puller.log_in(secure.host, "user", "secret")
        secure.fault("manifests", error(401, "X", "x", f'Bearer realm="{registry.url}/token"'))
        with pytest.raises(RegistryError, match=f"its token server {registry.host} is not on https"):
            puller.resolve(f"{secure.host}/org/app:1")
        assert registry.requests == []


def test_a_token_server_on_https(puller: Puller, certificates: Certificates) -> None:
    with FaultyRegistry(auth="bearer", tls=certificates.server_context()) as registry:
        registry.add_image("org/app", "1")
        puller.registries[registry.host] = RegistryConfig(ca_file=str(certificates.ca))
        puller.resolve(f"{registry.host}/org/app:1")
        assert registry.tokens_given == 1
