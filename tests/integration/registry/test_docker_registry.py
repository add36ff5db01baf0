"""Against the real thing: docker-registry with tokens signed by a token server."""

import asyncio
import hashlib

import httpx
import pytest
from example_image import Image
from example_registry import ExampleRegistry

from lxdpy.drivers.registry import RegistryClient
from lxdpy.errors import AccessDeniedError, NotFoundError
from lxdpy.oci.digest import Digest
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from tests.integration.registry.conftest import Puller

pytestmark = pytest.mark.registry


def test_resolve_and_fetch(puller: Puller, example_registry: ExampleRegistry, example_image: Image) -> None:
    async def job(client: RegistryClient) -> None:
        reference = Reference.parse(f"{example_registry.host}/example:1")
        image = await client.resolve(reference, Platform.host(), cached=lambda _: None)
        assert Digest.of(image.manifest_bytes) == image.manifest_digest
        assert len(image.manifest.layers) == len(image.config.diff_ids) == 3
        async with httpx.AsyncClient() as http:
            for layer in image.manifest.layers:
                (endpoint,) = await client.blob_source(image, layer).endpoints()
                data = (await http.get(endpoint.url, headers=dict(endpoint.headers))).content
                assert hashlib.sha256(data).hexdigest() == layer.digest.hex
        again = await client.resolve(
            Reference.parse(f"{example_registry.host}/example@{image.manifest_digest}"),
            Platform.host(),
            cached=lambda _: None,
        )
        assert again.manifest == image.manifest

    puller.run(job)


def test_many_at_once(puller: Puller, example_registry: ExampleRegistry) -> None:
    async def job(client: RegistryClient) -> None:
        reference = Reference.parse(f"{example_registry.host}/example:1")
        images = await asyncio.gather(
            *(client.resolve(reference, Platform.host(), cached=lambda _: None) for _ in range(16))
        )
        assert len({image.manifest_digest for image in images}) == 1

    puller.run(job)


def test_unknown_tag(puller: Puller, example_registry: ExampleRegistry) -> None:
    with pytest.raises(NotFoundError, match="has no example:none: manifest unknown"):
        puller.resolve(f"{example_registry.host}/example:none", Platform.host())
    digest = f"sha256:{'1' * 64}"
    with pytest.raises(NotFoundError, match=f"has no example@{digest}: "):
        puller.resolve(f"{example_registry.host}/example@{digest}", Platform.host())


def test_wrong_password(puller: Puller, example_registry: ExampleRegistry) -> None:
    puller.log_in(example_registry.host, example_registry.user, "wrong")
    with pytest.raises(AccessDeniedError, match="refuses the credentials"):
        puller.resolve(f"{example_registry.host}/example:1", Platform.host())
