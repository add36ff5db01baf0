"""What passes is waited for, what does not ends soon and says why."""

import time

import pytest

from lxdpy.errors import NotFoundError, RegistryError
from tests.fakes.registry import Answer, Cut, Fault, FaultyRegistry, Stall, error
from tests.integration.registry.conftest import Puller

HUB_LIMIT = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}


@pytest.mark.parametrize(
    "fault",
    [
        Answer(500),
        Answer(503, {"Retry-After": "0"}),
        Answer(502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>"),
        Answer(429, {"Retry-After": "0"}),
        Cut(),
        Cut(after=0),
        Cut(after=20),
        Cut(after=20, reset=False),
        Stall(after=20),
        Stall(),
    ],
    ids=str,
)
def test_what_passes(puller: Puller, registry: FaultyRegistry, fault: Fault) -> None:
    made = registry.add_image("org/app", "1")
    puller.idle_timeout_s = 0.5
    registry.fault("manifests", fault)
    registry.fault("blobs", fault)
    assert puller.resolve(f"{registry.host}/org/app:1").config_bytes == made.config
    assert len(registry.requests) == 4


def test_retry_after_is_kept_to(puller: Puller, registry: FaultyRegistry) -> None:
    registry.add_image("org/app", "1")
    registry.fault("manifests", Answer(429, {"Retry-After": "1"}))
    start = time.monotonic()
    puller.resolve(f"{registry.host}/org/app:1")
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        (Answer(429, {**HUB_LIMIT, "Retry-After": "3600"}), ["limit 100 pulls in 6 h", "try again in 3600 s"]),
        (
            Answer(429, HUB_LIMIT, error(429, "TOOMANYREQUESTS", "You have reached your limit").body),
            ["limit 100 pulls in 6 h", "0 remaining"],
        ),
    ],
)
def test_a_quota_is_not_waited_for(puller: Puller, registry: FaultyRegistry, answer: Answer, facts: list[str]) -> None:
    registry.fault("manifests", answer, forever=True)
    with pytest.raises(RegistryError) as caught:
        puller.resolve(f"{registry.host}/org/app:1")
    assert len(registry.requests) == 1
    for fact in [*facts, f"log in to {registry.host}"]:
        assert fact in str(caught.value)


def test_a_registry_that_stays_broken(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", Answer(503, {"Retry-After": "0"}), forever=True)
    with pytest.raises(RegistryError, match=f"{registry.host} answered HTTP 503"):
        puller.resolve(f"{registry.host}/org/app:1")
    assert len(registry.requests) == 5


def test_a_registry_that_stays_silent(puller: Puller, registry: FaultyRegistry) -> None:
    puller.idle_timeout_s = 0.3
    registry.fault("manifests", Stall(), forever=True)
    with pytest.raises(RegistryError, match=f"Cannot reach {registry.host}: it was silent for 0.3 s"):
        puller.resolve(f"{registry.host}/org/app:1")
    assert len(registry.requests) == 2


def test_what_an_error_says_is_shown_without_its_line_breaks(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", error(418, "TEAPOT", "short\nand\x1b[31mstout"))
    with pytest.raises(RegistryError, match=r"short and \[31mstout \(HTTP 418\)"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_an_error_page_of_many_megabytes(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", Answer(404, {"Content-Type": "text/html"}, b"x" * (8 << 20)))
    with pytest.raises(NotFoundError, match="HTTP 404"):
        puller.resolve(f"{registry.host}/org/app:1")
