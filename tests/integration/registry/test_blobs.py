"""Where blobs are: URLs and headers that work as they are, and fresh ones after a 401."""

import dataclasses

import httpx
import pytest

from lxdpy.config import RegistryConfig
from lxdpy.drivers.base import BlobEndpoint, BlobSource, ResolvedImage
from lxdpy.drivers.registry import RegistryClient
from lxdpy.errors import AccessDeniedError, RegistryError
from lxdpy.oci.reference import Reference
from tests.fakes.registry import FaultyRegistry, error
from tests.integration.registry.conftest import AMD64, Puller


async def _source(client: RegistryClient, registry: FaultyRegistry) -> tuple[ResolvedImage, BlobSource]:
    image = await client.resolve(Reference.parse(f"{registry.host}/org/app:1"), AMD64, cached=lambda _: None)
    return image, client.blob_source(image, image.manifest.layers[0])


async def _get(endpoint: BlobEndpoint) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(endpoint.url, headers=dict(endpoint.headers))


def test_an_endpoint_can_be_used_as_it_is(puller: Puller) -> None:
    with FaultyRegistry(auth="bearer") as registry:
        registry.add_image("org/app", "1", layers=[b"layer"])

        async def job(client: RegistryClient) -> None:
            _, source = await _source(client, registry)
            (endpoint,) = await source.endpoints()
            assert endpoint.headers["Accept-Encoding"] == "identity"
            assert (await _get(endpoint)).content == b"layer"

        puller.run(job)


def test_a_refused_token_is_renewed_once_for_all(puller: Puller) -> None:
    with FaultyRegistry(auth="bearer") as registry:
        registry.add_image("org/app", "1", layers=[b"layer"])

        async def job(client: RegistryClient) -> None:
            _, source = await _source(client, registry)
            (endpoint,) = await source.endpoints()
            registry.expire_tokens()
            refused = await _get(endpoint)
            assert refused.status_code == 401
            challenges = refused.headers.get_list("www-authenticate")
            renewed = await source.renew(endpoint, challenges)
            assert await source.renew(endpoint, challenges) == renewed
            assert registry.tokens_given == 2
            assert dataclasses.replace(renewed, headers=endpoint.headers) == endpoint
            assert (await _get(renewed)).content == b"layer"

        puller.run(job)


def test_what_can_not_be_renewed(puller: Puller) -> None:
    with FaultyRegistry(auth="bearer") as registry:
        registry.add_image("org/app", "1", layers=[b"layer"])

        async def job(client: RegistryClient) -> None:
            _, source = await _source(client, registry)
            (endpoint,) = await source.endpoints()
            registry.fault("/token", error(401, "UNAUTHORIZED", "no"), forever=True)
            with pytest.raises(AccessDeniedError, match="refuses pulls without logging in"):
                await source.renew(endpoint, [f'Bearer realm="{registry.url}/token"'])
            with pytest.raises(RegistryError, match="no endpoint of this blob"):
                await source.renew(BlobEndpoint("https://other.example/", {}), [])

        puller.run(job)


def test_who_answered_comes_first(puller: Puller, registry: FaultyRegistry) -> None:
    with FaultyRegistry() as mirror:
        puller.registries[registry.host] = RegistryConfig(mirrors=(mirror.host,))
        registry.add_image("org/app", "1", layers=[b"layer"])

        async def job(client: RegistryClient) -> None:
            image, source = await _source(client, registry)
            assert image.endpoint == registry.url
            assert [endpoint.url.partition("/v2/")[0] for endpoint in await source.endpoints()] == [
                registry.url,
                mirror.url,
            ]

        puller.run(job)


def test_a_mirror_that_is_gone_is_left_out(puller: Puller, registry: FaultyRegistry) -> None:
    puller.registries[registry.host] = RegistryConfig(mirrors=("127.0.0.1:1",))
    registry.add_image("org/app", "1", layers=[b"layer"])

    async def job(client: RegistryClient) -> None:
        _, source = await _source(client, registry)
        assert len(await source.endpoints()) == 1

    puller.run(job)
