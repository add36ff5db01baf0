"""The driver and its helper against a real server: TLS, documents that are none, silence."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lxdpy.drivers.base import RemoteImage
from lxdpy.drivers.simplestreams import StreamsClient
from lxdpy.errors import InvalidRequestError, LxdpyError, NotFoundError, RegistryError
from tests.fakes import certificates
from tests.fakes.certificates import Certificates
from tests.fakes.simplestreams import ImageServer

HOST = (("x86_64", "amd64"),)
SHA = "a" * 64


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(tmp_path: Path, certs: Certificates) -> Iterator[ImageServer]:
    with ImageServer(tmp_path, certs) as running:
        offer(running)
        yield running


def offer(server: ImageServer) -> None:
    file = {"ftype": "lxd_combined.tar.gz", "path": "images/a b.tar.gz", "size": 3, "sha256": SHA}
    product = {"aliases": "app", "arch": "amd64", "os": "App", "versions": {"20260101": {"items": {"one": file}}}}
    document = {"datatype": "image-downloads", "products": {"app": product}}
    (server.directory / "streams/v1/images.json").write_text(json.dumps(document))


def find(server: str, name: str = "app", certificate: str = "", **options: float) -> RemoteImage:
    client = StreamsClient(**options)
    return asyncio.run(client.find(server, name, architectures=HOST, certificate=certificate))


def test_a_server_whose_certificate_the_source_brings(server: ImageServer, certs: Certificates) -> None:
    for path in (certs.ca, certs.server):
        image = find(f"{server.url}/", certificate=path.read_text())
        assert image.fingerprint == SHA
        assert image.server == server.url
    source = StreamsClient().source(image, image.files[0], certificate="PEM")
    (endpoint,) = asyncio.run(source.endpoints())
    assert (endpoint.url, endpoint.ca_data) == (f"{server.url}/images/a%20b.tar.gz", "PEM")


def test_a_server_that_is_not_trusted(server: ImageServer) -> None:
    with pytest.raises(RegistryError, match="certificate verify failed"):
        find(server.url)
    with pytest.raises(RegistryError, match="no PEM certificate"):
        find(server.url, certificate="nonsense")
    assert server.requests == []


def test_plain_http_is_for_loopback(tmp_path: Path) -> None:
    with ImageServer(tmp_path, None) as server:
        offer(server)
        assert find(server.url).fingerprint == SHA
    for url in (
        "http://images.example",
        "ftp://images.example",
        "images.example",
        "https://",
        "https://a?b",
        "https://a:x",
    ):
        with pytest.raises(InvalidRequestError, match="Invalid image server"):
            find(url)
    with pytest.raises(InvalidRequestError, match="login"):
        find("https://user:secret@images.example")


def _write(path: str, text: str) -> Callable[[ImageServer], None]:
    return lambda server: (server.directory / path).write_text(text) and None


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (_write("streams/v1/images.json", "{"), RegistryError, "no JSON"),
        (_write("streams/v1/images.json", "[]"), RegistryError, "no JSON object"),
        (_write("streams/v1/images.json", "[" * 100_000), RegistryError, "no JSON"),
        (_write("streams/v1/index.json", '{"index": []}'), RegistryError, "must be an object"),
        (_write("streams/v1/index.json", "{}"), NotFoundError, "has no image"),
        (_write("streams/v1/index.json", " " * (9 << 20)), RegistryError, "more than"),
        (lambda server: (server.directory / "streams/v1/images.json").unlink(), NotFoundError, "does not exist"),
    ],
)
def test_documents_that_are_none(
    server: ImageServer, certs: Certificates, change: Callable[[ImageServer], None], kind: type[LxdpyError], text: str
) -> None:
    change(server)
    with pytest.raises(kind, match=text):
        find(server.url, certificate=certs.ca.read_text())


def test_a_broken_connection_is_tried_again(server: ImageServer, certs: Certificates) -> None:
    server.cut["/streams/v1/images.json"] = 5
    assert find(server.url, certificate=certs.ca.read_text()).fingerprint == SHA
    assert server.requests.count("/streams/v1/images.json") == 2


def test_nobody_there_and_nobody_who_answers(tmp_path: Path) -> None:
    with ImageServer(tmp_path, None) as server:
        gone = server.url
    with pytest.raises(RegistryError, match="Cannot reach image server"):
        find(gone)
    with pytest.raises(RegistryError, match=r"did not come within 0\.001 s"):
        find(gone, timeout_s=0.001)
