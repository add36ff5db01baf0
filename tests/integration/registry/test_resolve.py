"""From a reference to a verified manifest and config; hostile and broken documents are refused."""

import base64
import json
import time

import pytest

from lxdpy.config import RegistryConfig
from lxdpy.errors import DigestMismatchError, InvalidRequestError, NotFoundError, RegistryError, UnsupportedError
from lxdpy.oci import media_types
from lxdpy.oci.digest import Digest
from lxdpy.oci.document import MAX_DOCUMENT_BYTES
from lxdpy.oci.platform import Platform
from tests.fakes.registry import Answer, FaultyRegistry, Redirect, descriptor
from tests.integration.registry.conftest import Puller

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


def test_a_manifest(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", "1", layers=[b"layer"])
    image = puller.resolve(f"{registry.host}/org/app:1")
    assert image.manifest_bytes == made.manifest
    assert image.manifest_digest == made.digest
    assert image.config_bytes == made.config
    assert image.config.diff_ids == (Digest.of(b"layer"),)
    assert image.index_digest is None
    assert image.endpoint == registry.url
    assert str(image.reference) == f"{registry.host}/org/app:1"
    request = registry.requested("manifests")[0]
    assert request.headers["accept"].split(", ") == list(media_types.ACCEPTED)
    assert request.headers["accept-encoding"] == "identity"


def test_an_index(puller: Puller, registry: FaultyRegistry) -> None:
    images = {
        platform: registry.add_image("org/app", None, layers=[platform.encode()], architecture=platform.split("/")[1])
        for platform in ("linux/arm64/v8", "linux/amd64")
    }
    index = registry.add_index("org/app", "1", images)
    for platform, made in images.items():
        image = puller.resolve(f"{registry.host}/org/app:1", Platform(*platform.split("/")))
        assert image.manifest_digest == made.digest
        assert (image.index_bytes, image.index_digest) == (index, Digest.of(index))
    with pytest.raises(NotFoundError, match=r"No manifest for linux/s390x; offered: linux/arm64/v8, linux/amd64"):
        puller.resolve(f"{registry.host}/org/app:1", Platform("linux", "s390x"))


def test_an_unchanged_tag_costs_one_request(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", None, layers=[b"layer"])
    registry.add_index("org/app", "1", {"linux/amd64": made})
    first = puller.resolve(f"{registry.host}/org/app:1")
    assert first.index_bytes is not None
    have = {Digest.of(data): data for data in (first.index_bytes, first.manifest_bytes, first.config_bytes)}
    registry.requests.clear()
    assert puller.resolve(f"{registry.host}/org/app:1", cached=have) == first
    assert [request.path for request in registry.requests] == ["/v2/org/app/manifests/1"]


def test_a_pinned_image_that_is_here_needs_nobody(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", "1")
    pinned = f"{registry.host}/org/app@{made.digest}"
    have = {Digest.of(data): data for data in (made.manifest, made.config)}
    assert puller.resolve(pinned).manifest_digest == made.digest
    registry.requests.clear()
    assert puller.resolve(pinned, cached=have).manifest_digest == made.digest
    assert registry.requests == []
    assert puller.resolve(f"127.0.0.1:1/org/app@{made.digest}", cached=have).endpoint == "https://127.0.0.1:1"


def test_unknown_names_say_who_was_asked(puller: Puller, registry: FaultyRegistry) -> None:
    registry.add_image("org/app", "1")
    for name in ("org/app:2", "org/none:1", f"org/app@{Digest.of(b'')}"):
        with pytest.raises(NotFoundError) as caught:
            puller.resolve(f"{registry.host}/{name}")
        assert f'Cannot resolve image "{registry.host}/{name}": {registry.host} has no' in str(caught.value)
        assert "manifest unknown (HTTP 404)" in str(caught.value)


def test_nobody_listens(puller: Puller) -> None:
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"Cannot reach 127\.0\.0\.1:1: Connection refused"):
        puller.resolve("127.0.0.1:1/org/app")
    puller.registries["127.0.0.1:1"] = RegistryConfig(plain_http=True)
    with pytest.raises(RegistryError, match=r"Cannot reach 127\.0\.0\.1:1: Connection refused"):
        puller.resolve("127.0.0.1:1/org/app")
    assert time.monotonic() - start < 4


# ------------------------------------------------------- documents that lie


def test_a_pin_is_what_it_says(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", "1")
    wanted = Digest.of(b"something else")
    registry.add_manifest("org/app", None, made.manifest, media_types.OCI_MANIFEST, digest=wanted)
    with pytest.raises(DigestMismatchError, match=f"something else than {wanted}"):
        puller.resolve(f"{registry.host}/org/app@{wanted}")


def test_the_registrys_own_digest_is_not_asked(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", "1")
    headers = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": str(Digest.of(b"lie"))}
    registry.fault("manifests/1", Answer(200, headers, made.manifest))
    assert puller.resolve(f"{registry.host}/org/app:1").manifest_digest == made.digest


@pytest.mark.parametrize(
    ("given", "why"),
    [(b"x" * 5, "5 bytes, and not 6"), (b"longer than that", "larger than 7 bytes"), (b"forged", "another digest")],
)
def test_a_child_has_the_size_and_digest_of_its_descriptor(
    puller: Puller, registry: FaultyRegistry, given: bytes, why: str
) -> None:
    child = descriptor(b"wanted", media_types.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    index = json.dumps({"mediaType": media_types.OCI_INDEX, "manifests": [child]}).encode()
    registry.add_manifest("org/app", "1", index, media_types.OCI_INDEX)
    registry.add_manifest("org/app", None, given, media_types.OCI_MANIFEST, digest=Digest.of(b"wanted"))
    with pytest.raises(RegistryError, match=why):
        puller.resolve(f"{registry.host}/org/app:1")


def test_a_forged_config(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", "1")
    registry.add_blob(made.config.replace(b"amd64", b"amd46"), Digest.of(made.config))
    with pytest.raises(DigestMismatchError, match="another digest"):
        puller.resolve(f"{registry.host}/org/app:1")


@pytest.mark.parametrize("length", [None, 10 << 30])
def test_a_document_without_end(puller: Puller, registry: FaultyRegistry, length: int | None) -> None:
    body = b" " * (MAX_DOCUMENT_BYTES + 100_000)
    registry.fault("manifests", Answer(200, {"Content-Type": media_types.OCI_MANIFEST}, body, length))
    with pytest.raises(RegistryError, match="larger than"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_a_descriptor_of_a_gigabyte_is_not_fetched(puller: Puller, registry: FaultyRegistry) -> None:
    config = {**descriptor(b"{}", media_types.OCI_CONFIG), "size": 1 << 30}
    manifest = json.dumps({"mediaType": media_types.OCI_MANIFEST, "config": config, "layers": []}).encode()
    registry.add_manifest("org/app", "1", manifest, media_types.OCI_MANIFEST)
    with pytest.raises(RegistryError, match="more than"):
        puller.resolve(f"{registry.host}/org/app:1")
    assert registry.requested("blobs") == []


def test_indexes_within_indexes_come_to_an_end(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", None)
    data, media_type = made.manifest, media_types.OCI_MANIFEST
    for depth in range(1, 6):
        entry = descriptor(data, media_type)
        if depth == 1:
            entry["platform"] = {"os": "linux", "architecture": "amd64"}
        data = json.dumps({"mediaType": media_types.OCI_INDEX, "manifests": [entry]}).encode()
        media_type = media_types.OCI_INDEX
        registry.add_manifest("org/app", f"depth-{depth}", data, media_type)
    assert puller.resolve(f"{registry.host}/org/app:depth-3").manifest_digest == made.digest
    with pytest.raises(RegistryError, match="indexes lie within one another"):
        puller.resolve(f"{registry.host}/org/app:depth-5")


def test_an_index_that_names_itself(puller: Puller, registry: FaultyRegistry) -> None:
    digest = Digest.of(b"itself")
    entry = {"mediaType": media_types.OCI_INDEX, "digest": str(digest), "size": 0}
    while (
        len(index := json.dumps({"mediaType": media_types.OCI_INDEX, "manifests": [entry]}).encode()) != entry["size"]
    ):
        entry["size"] = len(index)
    registry.add_manifest("org/app", "1", index, media_types.OCI_INDEX)
    registry.add_manifest("org/app", None, index, media_types.OCI_INDEX, digest=digest)
    with pytest.raises(DigestMismatchError, match="another digest"):
        puller.resolve(f"{registry.host}/org/app:1")


@pytest.mark.parametrize(
    ("content_type", "body", "kind", "why"),
    [
        ("text/html", b"<html>sign in</html>", RegistryError, "web page: it is no registry"),
        (media_types.OCI_MANIFEST, b"<html>", RegistryError, "no JSON document"),
        (media_types.OCI_MANIFEST, b'{"manifests":[],"layers":[]}', RegistryError, "both manifests and layers"),
        (media_types.OCI_INDEX, b'{"mediaType":"%b"}' % media_types.OCI_MANIFEST.encode(), RegistryError, "says"),
        ("application/json", b"[" * 100_000, RegistryError, "nested too deeply"),
        (SCHEMA1, b'{"fsLayers":[]}', UnsupportedError, "schema 1"),
    ],
)
def test_documents_that_are_none(
    puller: Puller, registry: FaultyRegistry, content_type: str, body: bytes, kind: type[Exception], why: str
) -> None:
    registry.fault("manifests", Answer(200, {"Content-Type": content_type}, body))
    with pytest.raises(kind, match=why):
        puller.resolve(f"{registry.host}/org/app:1")


def test_as_many_diff_ids_as_layers(puller: Puller, registry: FaultyRegistry) -> None:
    registry.add_image("org/app", "1", layers=[b"1", b"2"], diff_ids=[Digest.of(b"1")])
    with pytest.raises(RegistryError, match="1 diff_ids, and the manifest 2 layers"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_another_platform_without_an_index(puller: Puller, registry: FaultyRegistry) -> None:
    registry.add_image("org/app", "1", architecture="s390x")
    with pytest.raises(NotFoundError, match="it is for linux/s390x, not for linux/amd64"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_a_compressed_answer_is_no_document(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", Answer(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"))
    with pytest.raises(RegistryError, match="Content-Encoding gzip"):
        puller.resolve(f"{registry.host}/org/app:1")


def test_a_document_may_come_from_elsewhere(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", "1")
    with FaultyRegistry() as cdn:
        cdn.add_blob(made.config)
        registry.fault("blobs", Redirect(f"{cdn.url}/cdn/{{name}}?signature=x"))
        assert puller.resolve(f"{registry.host}/org/app:1").config_bytes == made.config
        assert len(cdn.requests) == 1


def test_redirects_in_a_circle(puller: Puller, registry: FaultyRegistry) -> None:
    registry.fault("manifests", Redirect("{target}"), forever=True)
    with pytest.raises(RegistryError, match="more than 5 in a row"):
        puller.resolve(f"{registry.host}/org/app:1")
    assert len(registry.requests) == 6


def test_inline_content_is_not_fetched(puller: Puller, registry: FaultyRegistry) -> None:
    made = registry.add_image("org/app", None)
    manifest = json.loads(made.manifest)
    manifest["config"]["data"] = base64.b64encode(made.config).decode()
    registry.add_manifest("org/app", "1", json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
    image = puller.resolve(f"{registry.host}/org/app:1")
    assert image.config_bytes == made.config
    assert registry.requested("blobs") == []


def test_references_never_reach_the_network_unparsed(puller: Puller) -> None:
    with pytest.raises(InvalidRequestError):
        puller.resolve("127.0.0.1:1/../../etc:1")
