"""Names that are looked up in a registry: which, how often, for how long."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lxdpy.drivers.base import ResolvedImage
from lxdpy.errors import AccessDeniedError, LxdpyError, NotFoundError, RegistryError
from lxdpy.oci.platform import Platform
from lxdpy.oci.reference import Reference
from lxdpy.services.images.lazy import NAME_S, VIRTUAL_S, LazyImages
from tests.fakes.drivers import FakeRegistry, image_documents


class Place:
    """Lazy images whose registry and clock are the test's."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.now = 0.0
        self.registry = FakeRegistry()
        self.failure: LxdpyError | None = None
        self.silent = False
        self.lazy = LazyImages(self.resolve, "docker.io", timeout_s=timeout_s, clock=lambda: self.now)

    async def resolve(self, reference: Reference) -> ResolvedImage:
        self.registry.asked.append(str(reference))
        if self.silent:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        asked = self.registry.asked
        self.registry.asked = []
        resolved = await self.registry.resolve(reference, Platform.host(), cached=lambda digest: None)
        self.registry.asked = asked
        return resolved

    def push(self, name: str, *layers: bytes) -> None:
        self.registry.images[name] = image_documents(layers or (b"one",))

    def parse(self, name: str) -> Reference:
        reference = self.lazy.reference(name)
        assert reference is not None
        return reference


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("org/app:1", "docker.io/org/app:1"),
        ("ghcr.io/org/app", "ghcr.io/org/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("127.0.0.1:5000/app:1", "127.0.0.1:5000/app:1"),
        (f"alpine@sha256:{'a' * 64}", f"docker.io/library/alpine@sha256:{'a' * 64}"),
    ],
)
def test_a_name_with_tag_digest_or_host_is_in_a_registry(name: str, reference: str) -> None:
    assert str(Place().parse(name)) == reference


@pytest.mark.parametrize("name", ["alpine", "alpine/3.20", "ubuntu/jammy/cloud", "a b:c", "", "a" * 64, "App/one"])
def test_what_may_be_an_alias_is_not_looked_up(name: str) -> None:
    assert Place().lazy.reference(name) is None


def test_an_image_is_known_by_its_fingerprint_for_a_while() -> None:
    async def scenario() -> None:
        place = Place()
        place.push("docker.io/library/alpine:3.20")
        found = await place.lazy.find(place.parse("alpine:3.20"))
        fingerprint = found.manifest_digest.hex
        place.now = VIRTUAL_S - 1
        assert place.lazy.get(fingerprint) is found
        assert place.lazy.get(fingerprint[:12]) is None
        place.now = VIRTUAL_S
        assert place.lazy.get(fingerprint) is None

    run(scenario)


def test_a_moved_tag_is_seen_soon_and_one_command_asks_once() -> None:
    async def scenario() -> None:
        place = Place()
        reference = place.parse("alpine:3.20")
        place.push(str(reference))
        first = await place.lazy.find(reference)
        place.push(str(reference), b"newer")
        place.now = NAME_S - 1
        assert await place.lazy.find(reference) is first
        place.now = NAME_S
        assert await place.lazy.find(reference) is not first
        assert place.registry.asked == [str(reference)] * 2

    run(scenario)


def test_those_who_ask_together_share_one_request() -> None:
    async def scenario() -> None:
        place = Place()
        reference = place.parse("alpine:3.20")
        place.push(str(reference))
        found = await asyncio.gather(*(place.lazy.find(reference) for _ in range(5)))
        assert all(image is found[0] for image in found)
        assert place.registry.asked == [str(reference)]

    run(scenario)


def test_a_misspelt_name_is_asked_for_once_in_a_while() -> None:
    async def scenario() -> None:
        place = Place()
        reference = place.parse("alpin:3.20")
        for _ in range(3):
            with pytest.raises(NotFoundError, match="docker"):
                await place.lazy.find(reference)
        assert place.registry.asked == [str(reference)]
        assert isinstance(place.lazy.failure("docker.io/library/alpin:3.20"), NotFoundError)
        assert place.lazy.failure("alpine:3.20") is None
        place.push(str(reference))
        place.now = NAME_S
        assert place.lazy.failure("alpin:3.20") is None
        await place.lazy.find(reference)

    run(scenario)


def test_a_registry_that_refuses_without_saying_why_has_nothing_of_that_name() -> None:
    async def scenario() -> None:
        place = Place()
        place.failure = AccessDeniedError("no alpin, or a login is missing")
        with pytest.raises(NotFoundError, match="no alpin, or a login is missing"):
            await place.lazy.find(place.parse("alpin:3.20"))

    run(scenario)


def test_a_silent_registry_is_not_waited_for() -> None:
    async def scenario() -> None:
        place = Place(timeout_s=0.01)
        place.silent = True
        for _ in range(2):
            with pytest.raises(RegistryError, match=r"docker\.io did not answer within 0\.01 s"):
                await place.lazy.find(place.parse("alpine:3.20"))
        assert len(place.registry.asked) == 1

    run(scenario)


def test_what_is_remembered_has_a_bound() -> None:
    async def scenario() -> None:
        place = Place()
        fingerprints = []
        for number in range(300):
            reference = place.parse(f"app:{number}")
            place.push(str(reference), b"%d" % number)
            fingerprints.append((await place.lazy.find(reference)).manifest_digest.hex)
        known = [fingerprint for fingerprint in fingerprints if place.lazy.get(fingerprint)]
        assert known == fingerprints[-256:]

    run(scenario)
