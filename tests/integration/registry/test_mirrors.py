"""Mirrors are asked first and in order; the registry itself when they fail."""

from collections.abc import Iterator

import pytest

from lxdpy.config import RegistryConfig
from lxdpy.drivers.registry import RegistryClient
from lxdpy.errors import NotFoundError
from lxdpy.oci import media_types
from lxdpy.oci.digest import Digest
from lxdpy.oci.reference import Reference
from tests.fakes.registry import Answer, Cut, Fault, FaultyRegistry
from tests.integration.registry.conftest import AMD64, Puller


@pytest.fixture
def mirror() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as mirror:
        yield mirror


def test_a_mirror_alone_will_do(puller: Puller, mirror: FaultyRegistry) -> None:
    puller.registries["registry.invalid"] = RegistryConfig(mirrors=(mirror.host,))
    made = mirror.add_image("org/app", "1")
    image = puller.resolve("registry.invalid/org/app:1")
    assert image.manifest_digest == made.digest
    assert image.endpoint == mirror.url
    assert {tuple(request.query["ns"]) for request in mirror.requests} == {("registry.invalid",)}


@pytest.mark.parametrize(
    "fault",
    [Answer(404), Answer(403), Answer(500), Answer(429, {"Retry-After": "3600"}), Cut(), Answer(200, {}, b"<html>")],
    ids=str,
)
def test_a_mirror_that_fails(puller: Puller, registry: FaultyRegistry, mirror: FaultyRegistry, fault: Fault) -> None:
    puller.registries[registry.host] = RegistryConfig(mirrors=("127.0.0.1:1", mirror.host))
    made = registry.add_image("org/app", "1")
    mirror.fault("", fault, forever=True)
    image = puller.resolve(f"{registry.host}/org/app:1")
    assert image.manifest_digest == made.digest
    assert image.endpoint == registry.url


def test_a_mirror_that_lies_about_a_blob(puller: Puller, registry: FaultyRegistry, mirror: FaultyRegistry) -> None:
    puller.registries[registry.host] = RegistryConfig(mirrors=(mirror.host,))
    made = registry.add_image("org/app", "1")
    mirror.add_manifest("org/app", "1", made.manifest, media_types.OCI_MANIFEST)
    mirror.add_blob(b"{}", Digest.of(made.config))
    assert puller.resolve(f"{registry.host}/org/app:1").config_bytes == made.config


def test_the_error_is_the_registrys_own(puller: Puller, registry: FaultyRegistry, mirror: FaultyRegistry) -> None:
    puller.registries[registry.host] = RegistryConfig(mirrors=(mirror.host,))
    mirror.fault("", Answer(403), forever=True)
    with pytest.raises(NotFoundError, match=f"{registry.host} has no org/app:1"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_a_mirror_below_a_prefix_with_its_own_login(puller: Puller) -> None:
    with FaultyRegistry(auth="bearer", users={"user": "secret"}) as mirror:
        puller.registries["registry.invalid"] = RegistryConfig(mirrors=(f"{mirror.host}/hub",))
        puller.log_in(f"{mirror.host}/hub", "user", "secret")
        made = mirror.add_image("hub/org/app", "1", layers=[b"layer"])

        async def job(client: RegistryClient) -> None:
            image = await client.resolve(Reference.parse("registry.invalid/org/app:1"), AMD64, cached=lambda _: None)
            assert image.manifest_digest == made.digest
            first, origin = await client.blob_source(image, image.manifest.layers[0]).endpoints()
            assert first.url.startswith(f"{mirror.url}/v2/hub/org/app/blobs/sha256:")
            assert first.headers["Authorization"].startswith("Bearer ")
            assert origin.url.startswith("https://registry.invalid/v2/org/app/blobs/")
            assert "Authorization" not in origin.headers

        puller.run(job)
