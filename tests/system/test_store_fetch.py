"""Files of LXD images on their way from a server into the store: whole, resumed, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lxdpy.config import Config
from lxdpy.drivers.base import BlobEndpoint, ImageFile
from lxdpy.drivers.store import LayerStore
from lxdpy.errors import DigestMismatchError, RegistryError
from lxdpy.oci.digest import Digest
from tests.fakes import certificates
from tests.fakes.simplestreams import ImageServer

pytestmark = [pytest.mark.root]

DATA = bytes(range(256)) * 20_000
DIGEST = Digest.of(DATA)
CUT = 3_000_000


class Source:
    """One URL."""

    def __init__(self, url: str, ca: str | None = None) -> None:
        self._endpoint = BlobEndpoint(url, {}, ca_data=ca)

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        return (self._endpoint,)

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        raise AssertionError("nobody wants a login")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImageServer]:
    with ImageServer(tmp_path, None) as running:
        (tmp_path / "file").write_bytes(DATA)
        yield running


def run(place: Path, body: Callable[[LayerStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = LayerStore(Config(state_dir=place))
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


async def fetch(store: LayerStore, server: ImageServer, digest: Digest = DIGEST, size: int = len(DATA)) -> ImageFile:
    return await store.fetch_file(digest, size, Source(f"{server.url}/file"), lambda count: None)


def test_a_file_is_fetched_once_for_all(place: Path, server: ImageServer) -> None:
    async def body(store: LayerStore) -> None:
        seen: list[int] = []
        source = Source(f"{server.url}/file")
        files = await asyncio.gather(*(store.fetch_file(DIGEST, len(DATA), source, seen.append) for _ in range(3)))
        assert files == [ImageFile(DIGEST, len(DATA))] * 3
        assert server.requests == ["/file"]
        assert seen
        assert (place / "blobs/sha256" / DIGEST.hex).read_bytes() == DATA
        assert list((place / "ingest").iterdir()) == []

    run(place, body)


def test_a_broken_transfer_goes_on_where_it_broke_off(place: Path, server: ImageServer) -> None:
    async def body(store: LayerStore) -> None:
        server.cut["/file"] = CUT
        await fetch(store, server)
        assert server.requests == ["/file", f"/file bytes={CUT}-"]

    run(place, body)


def test_also_after_a_daemon_s_end(place: Path, server: ImageServer) -> None:
    (place / "ingest").mkdir()
    (place / "ingest" / f"{DIGEST.hex}.partial").write_bytes(DATA[:CUT])

    async def body(store: LayerStore) -> None:
        await fetch(store, server)
        assert server.requests == [f"/file bytes={CUT}-"]

    run(place, body)


def test_a_damaged_beginning_is_fetched_again(place: Path, server: ImageServer) -> None:
    (place / "ingest").mkdir()
    (place / "ingest" / f"{DIGEST.hex}.partial").write_bytes(b"x" * CUT)

    async def body(store: LayerStore) -> None:
        await fetch(store, server)
        assert server.requests[-1] == "/file"

    run(place, body)


def test_another_file_than_was_promised_is_not_kept(place: Path, server: ImageServer) -> None:
    async def body(store: LayerStore) -> None:
        for digest, size in ((Digest.of(b"other"), len(DATA)), (DIGEST, len(DATA) - 1)):
            with pytest.raises(DigestMismatchError):
                await fetch(store, server, digest, size)
        (server.directory / "file").unlink()
        with pytest.raises(RegistryError, match="404"):
            await fetch(store, server)
        assert [path for path in (place / "blobs/sha256").iterdir() if not path.name.startswith(".")] == []
        assert list((place / "ingest").iterdir()) == []

    run(place, body)


def test_the_certificate_of_the_source_is_trusted(place: Path, tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    with ImageServer(tmp_path, made) as server:
        (tmp_path / "file").write_bytes(DATA)

        async def body(store: LayerStore) -> None:
            with pytest.raises(RegistryError, match="certificate"):
                await fetch(store, server)
            source = Source(f"{server.url}/file", made.server.read_text())
            await store.fetch_file(DIGEST, len(DATA), source, lambda count: None)

        run(place, body)
