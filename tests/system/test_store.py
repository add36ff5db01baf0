"""The store with real workers: pulls from a registry that misbehaves, jobs that die, disks that fill up, restarts."""

import asyncio
import gzip
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import zstandard

from lxdpy.config import Config, ImagesConfig, WorkerConfig
from lxdpy.drivers.base import BlobEndpoint, LayerRequest
from lxdpy.drivers.store import LayerStore
from lxdpy.errors import (
    AccessDeniedError,
    DigestMismatchError,
    LayerError,
    LxdpyError,
    NoSpaceError,
    NotFoundError,
    RegistryError,
    WorkerError,
)
from lxdpy.linux.process import start_time
from lxdpy.linux.remove import remove
from lxdpy.oci.descriptor import Descriptor
from lxdpy.oci.digest import Digest
from lxdpy.progress import LayerProgress, LayerState, NoProgress
from tests.fakes.registry import Answer, Cut, FaultyRegistry, IgnoreRange, Pass, Redirect, Stall
from tests.fakes.tars import Tar
from tests.system.unpacking import tree

pytestmark = pytest.mark.root

IDLE_TIMEOUT_S = 0.5
ROOT = Path(__file__).resolve().parents[2]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


@dataclass
class Layer:
    """A layer as a registry has it."""

    tar: bytes
    blob: bytes = b""
    diff_id: Digest = field(init=False)

    def __post_init__(self) -> None:
        self.blob = self.blob or gzip.compress(self.tar, 1, mtime=0)
        self.diff_id = Digest.of(self.tar)

    @property
    def digest(self) -> Digest:
        return Digest.of(self.blob)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", self.digest, len(self.blob))


def layer(size: int = 300_000, seed: int = 1) -> Layer:
    tar = Tar().directory("./").directory("data").file("data/noise", noise(size, seed))
    for number in range(20):
        tar.file(f"data/{number}", b"%d" % number, uid=number)
    return Layer(tar.bytes())


class Source:
    """Blobs of one or more registries, with a bearer token that they may refuse."""

    def __init__(self, digest: Digest, urls: Sequence[str], token: str = "") -> None:
        self._digest = digest
        self._urls = urls
        self.token = token
        self.renewals: list[Sequence[str]] = []
        self.renew_with: str | LxdpyError = AccessDeniedError("No credentials")

    async def endpoints(self) -> tuple[BlobEndpoint, ...]:
        return tuple(BlobEndpoint(f"{url}/v2/app/blobs/{self._digest}", self._headers()) for url in self._urls)

    async def renew(self, endpoint: BlobEndpoint, challenges: Sequence[str]) -> BlobEndpoint:
        self.renewals.append(challenges)
        if isinstance(self.renew_with, LxdpyError):
            raise self.renew_with
        self.token = self.renew_with
        return replace(endpoint, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Listener(NoProgress):
    """Remembers the states that layers were in."""

    def __init__(self) -> None:
        self.updates: list[LayerProgress] = []

    def layer(self, update: LayerProgress) -> None:
        self.updates.append(update)

    def states(self) -> set[LayerState]:
        return {update.state for update in self.updates}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory; outside of it nothing may change, and no process or descriptor may stay."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("untouched")
    before = len(os.listdir("/proc/self/fd"))
    path = tmp_path / "state"
    path.mkdir()
    yield path
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(entry.name for entry in canary.iterdir()) == ["file"]
    assert (canary / "file").read_text() == "untouched"
    remove(path)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as registry:
        yield registry


def run(
    state: Path,
    body: Callable[[LayerStore], Awaitable[None]],
    *,
    images: ImagesConfig | None = None,
    workers: WorkerConfig | None = None,
) -> None:
    """Run `body` with a store, and see that nothing unfinished stays."""

    async def main() -> None:
        config = Config(state_dir=state, images=images or ImagesConfig(), workers=workers or WorkerConfig())
        store = LayerStore(config, idle_timeout_s=IDLE_TIMEOUT_S)
        try:
            async with asyncio.timeout(60):
                await body(store)
        finally:
            await store.close()

    asyncio.run(main())
    assert leftovers(state) == []


def leftovers(state: Path) -> list[str]:
    return [path.name for path in (state / "layers").iterdir() if path.name.startswith(".tmp-")]


def ingest(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "ingest").iterdir())


def blobs(state: Path) -> set[str]:
    return {path.name for path in (state / "blobs/sha256").iterdir()}


def requests(layers: Sequence[Layer], *urls: str) -> list[LayerRequest]:
    return [
        LayerRequest(layer.descriptor, layer.diff_id, Source(layer.digest, urls) if urls else None) for layer in layers
    ]


def pull(
    state: Path, registry: FaultyRegistry, *layers: Layer, add: bool = True, images: ImagesConfig | None = None
) -> tuple[str, ...]:
    """Pull layers with a store of their own; returns their ids."""
    ids: tuple[str, ...] = ()

    async def body(store: LayerStore) -> None:
        nonlocal ids
        stored = await store.materialize(requests(layers, registry.url), NoProgress())
        ids = tuple(entry.id for entry in stored)

    if add:
        for one in layers:
            registry.add_blob(one.blob)
    run(state, body, images=images)
    return ids


def fails(
    state: Path, registry: FaultyRegistry, error: type[LxdpyError], match: str, *layers: Layer, **more: object
) -> None:
    with pytest.raises(error, match=match):
        pull(state, registry, *layers, **more)  # type: ignore[arg-type]
    assert leftovers(state) == []
    assert [path for path in (state / "layers").iterdir() if not path.name.startswith(".tmp-")] == []
    assert blobs(state) == set()


# ---------------------------------------------------------------- pulls


@pytest.mark.parametrize("compress", [None, lambda data: gzip.compress(data), zstandard.compress, lambda data: data])
def test_pull_and_pull_again(state: Path, registry: FaultyRegistry, compress: Callable[[bytes], bytes] | None) -> None:
    tar = layer().tar
    one = Layer(tar, compress(tar)) if compress is not None else layer()
    listener = Listener()
    registry.add_blob(one.blob)

    async def body(store: LayerStore) -> None:
        wanted = requests([one], registry.url)
        (stored,) = await store.materialize(wanted, listener)
        assert stored.id == f"d-{one.diff_id.hex}"
        assert stored.diff_id == one.diff_id
        assert stored.entries == 23
        assert stored.size_bytes == 300_000 + 30
        assert store.layer(stored.id) == stored
        (mount,) = store.lower_mounts([stored.id])
        data = Path(mount.path, "data")
        assert (data / "noise").read_bytes() == noise(300_000)
        assert (data / "7").stat().st_uid == 7
        again = Listener()
        assert await store.materialize(wanted, again) == (stored,)
        assert again.states() == {LayerState.EXISTS}
        store.release([stored.id, stored.id])

    run(state, body)
    assert LayerState.DONE in listener.states()
    assert listener.updates[-1].done_bytes == len(one.blob)
    assert len(registry.requested("/blobs/")) == 1
    assert blobs(state) == {one.digest.hex}
    assert ingest(state) == []
    assert json.loads((state / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_many_layers_in_any_order_are_the_same(tmp_path: Path, state: Path, registry: FaultyRegistry) -> None:
    base = Layer(Tar().directory("usr", mode=0o711).directory("usr/lib", mode=0o750).symlink("lib", "usr/lib").bytes())
    upper = Layer(Tar().file("lib/a/f", b"x").file("usr/.wh.old").hardlink("usr/h", "usr/lib/late").bytes())
    middle = Layer(
        Tar().directory("usr").directory("usr/lib").file("usr/lib/late", b"late" * 99).file("etc/.wh.x").bytes()
    )
    layers = [base, middle, *(layer(seed=seed) for seed in range(8)), upper]
    results = []
    for number, workers in enumerate((WorkerConfig(downloads=1, unpacks=1), WorkerConfig(downloads=6, unpacks=4))):
        directory = tmp_path / f"state{number}"
        directory.mkdir()
        for one in layers:
            registry.add_blob(one.blob)

        async def body(store: LayerStore) -> None:
            stored = await store.materialize(requests(layers, registry.url), NoProgress())
            results.append([(entry.id, tree(Path(store.lower_mounts([entry.id])[0].path))) for entry in stored])

        run(directory, body, workers=workers)
        remove(directory)
    assert results[0] == results[1]
    ids = [layer_id for layer_id, _ in results[0]]
    assert [layer_id[0] for layer_id in ids] == ["d", "c", *["d"] * 8, "c"]
    top = results[0][-1][1]
    assert "usr/lib/a/f" in top
    assert "usr/h" in top
    assert "lib" not in top


def test_one_layer_twice_in_an_image(state: Path, registry: FaultyRegistry) -> None:
    one, other = layer(), layer(seed=2)
    partly = Layer(Tar().file("x/y").bytes())

    async def body(store: LayerStore) -> None:
        stored = await store.materialize(requests([one, other, one, partly, partly], registry.url), NoProgress())
        ids = [entry.id for entry in stored]
        assert ids[0] == ids[2]
        assert ids[3] != ids[4]
        assert len(store.lower_mounts(ids[::-1])) == 4
        store.release(ids)

    for entry in (one, other, partly):
        registry.add_blob(entry.blob)
    run(state, body)


def test_empty_layer(state: Path, registry: FaultyRegistry) -> None:
    for empty in (Layer(b"", gzip.compress(b"")), Layer(bytes(1024))):
        (layer_id,) = pull(state, registry, empty)
        assert list((state / "layers" / layer_id / "fs").iterdir()) == []


def test_same_layer_on_other_layers_is_fitted_anew(state: Path, registry: FaultyRegistry) -> None:
    first = Layer(Tar().directory("d", mode=0o700).bytes())
    second = Layer(Tar().directory("d", mode=0o711).bytes())
    upper = Layer(Tar().file("d/f").bytes())
    ids = []

    async def body(store: LayerStore) -> None:
        for one in (first, second, upper):
            registry.add_blob(one.blob)
        images = await asyncio.gather(
            *(store.materialize(requests([base, upper], registry.url), NoProgress()) for base in (first, second))
        )
        ids.extend(image[1].id for image in images)
        for image in images:
            store.release([entry.id for entry in image])

    run(state, body)
    modes = [stat.S_IMODE((state / "layers" / layer_id / "fs/d").stat().st_mode) for layer_id in ids]
    assert modes == [0o700, 0o711]
    assert len(registry.requested(str(upper.digest))) == 1


# ---------------------------------------------------------------- broken transfers


def test_cut_connections_resume(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    registry.fault("/blobs/", Cut(after=100_000), Cut(after=50_000, reset=False), Answer(503), Pass())
    pull(state, registry, one)
    ranges = [request.headers.get("range") for request in registry.requested("/blobs/")]
    assert ranges[0] is None
    assert ranges[-1] == "bytes=150000-"
    assert blobs(state) == {one.digest.hex}


def test_server_without_ranges(state: Path, registry: FaultyRegistry) -> None:
    registry.fault("/blobs/", Cut(after=100_000), IgnoreRange())
    pull(state, registry, layer())
    assert len(registry.requested("/blobs/")) == 2


def test_silent_server(state: Path, registry: FaultyRegistry) -> None:
    registry.fault("/blobs/", Stall(after=100_000), Pass())
    pull(state, registry, layer())
    assert registry.requested("/blobs/")[-1].headers["range"] == "bytes=100000-"


def test_partial_blob_of_an_earlier_daemon(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    registry.fault("/blobs/", Cut(after=200_000), *[Answer(404)] * 9)
    fails(state, registry, RegistryError, "404", one)
    assert ingest(state) == [f"{one.digest.hex}.partial"]
    with FaultyRegistry() as healthy:
        pull(state, healthy, one)
        assert [request.headers["range"] for request in healthy.requested("/blobs/")] == ["bytes=200000-"]
    assert ingest(state) == []


def test_damaged_partial_blob(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    (state / "ingest").mkdir()
    partial = state / "ingest" / f"{one.digest.hex}.partial"
    for content in (b"x" * 1000, b"x" * len(one.blob), b"x" * (len(one.blob) + 5), one.blob):
        partial.write_bytes(content)
        (layer_id,) = pull(state, registry, one)
        remove(state / "layers" / layer_id)
        (state / "blobs/sha256" / one.digest.hex).unlink()
    # The last one was whole.
    assert len(registry.requested("/blobs/")) == 2 + 1 + 1


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (Answer(404), RegistryError, "404"),
        (Answer(403), AccessDeniedError, "denied"),
        (Answer(200, {"Content-Type": "text/html"}, b"<html>log in"), DigestMismatchError, "bytes"),
        (Answer(200, {"Content-Encoding": "gzip"}, b"x"), RegistryError, "Content-Encoding"),
        (Answer(206, {"Content-Range": "bytes 5-9/10"}, b"12345"), RegistryError, "range"),
        (Answer(302, {}), RegistryError, "Location"),
        (Answer(302, {"Location": "file:///etc/passwd"}), RegistryError, "http"),
        (Answer(418), RegistryError, "418"),
    ],
)
def test_answers_that_will_not_do(
    state: Path, registry: FaultyRegistry, answer: Answer, error: type[LxdpyError], match: str
) -> None:
    registry.fault("/blobs/", answer, forever=True)
    fails(state, registry, error, match, layer())
    assert ingest(state) == []
    assert len(registry.requested("/blobs/")) == 1


def test_rate_limit_is_told(state: Path, registry: FaultyRegistry) -> None:
    headers = {"Retry-After": "600", "RateLimit-Limit": "100;w=21600"}
    registry.fault("/blobs/", Answer(429, headers), forever=True)
    fails(state, registry, RegistryError, "limit 100 pulls in 6 h", layer())


def test_mirrors_in_order(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    with FaultyRegistry() as mirror:
        mirror.fault("/blobs/", Answer(404), forever=True)
        registry.add_blob(one.blob)

        async def body(store: LayerStore) -> None:
            urls = ("http://127.0.0.1:1", mirror.url, registry.url)
            await store.materialize(requests([one], *urls), NoProgress())

        run(state, body)
        assert len(mirror.requested("/blobs/")) == 1
    assert len(registry.requested("/blobs/")) == 1


def test_redirect_drops_authorization(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    with FaultyRegistry() as cdn:
        cdn.add_blob(one.blob)
        registry.fault("/blobs/", Redirect(f"{cdn.url}/cdn/{{name}}?signed"), forever=True)
        cdn.fault("/cdn/", Answer(403), Cut(after=1000), Pass())

        async def body(store: LayerStore) -> None:
            source = Source(one.digest, [registry.url], token="secret")
            await store.materialize([LayerRequest(one.descriptor, one.diff_id, source)], NoProgress())

        run(state, body)
        assert all("authorization" not in request.headers for request in cdn.requested())
        assert cdn.requested()[-1].headers["range"] == "bytes=1000-"
    # The signed address is asked for anew each time.
    assert len(registry.requested("/blobs/")) == 3
    assert all(request.headers["authorization"] == "Bearer secret" for request in registry.requested("/blobs/"))


def test_token_is_renewed_in_the_middle(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    registry.add_blob(one.blob)
    challenge = 'Bearer realm="http://127.0.0.1/token",service="s"'
    denied = Answer(401, {"WWW-Authenticate": challenge})
    registry.fault("/blobs/", Cut(after=100_000), denied, Pass())
    source = Source(one.digest, [registry.url], token="old")
    source.renew_with = "new"

    async def body(store: LayerStore) -> None:
        await store.materialize([LayerRequest(one.descriptor, one.diff_id, source)], NoProgress())

    run(state, body)
    assert source.renewals == [[challenge]]
    assert registry.requested("/blobs/")[-1].headers["authorization"] == "Bearer new"


@pytest.mark.parametrize("renew_with", ["useless", AccessDeniedError("Log in first")])
def test_access_that_stays_denied(state: Path, registry: FaultyRegistry, renew_with: str | LxdpyError) -> None:
    one = layer()
    registry.fault("/blobs/", Answer(401, {"WWW-Authenticate": "Basic"}), forever=True)
    source = Source(one.digest, [registry.url])
    source.renew_with = renew_with

    async def body(store: LayerStore) -> None:
        with pytest.raises(AccessDeniedError, match=r"[Ll]og in"):
            await store.materialize([LayerRequest(one.descriptor, one.diff_id, source)], NoProgress())

    run(state, body)
    assert len(source.renewals) == 1
    assert ingest(state) == []


# ---------------------------------------------------------------- wrong content


def test_wrong_digest_leaves_nothing(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    other = bytearray(one.blob)
    other[-20] ^= 1
    registry.add_blob(bytes(other), one.digest)
    fails(state, registry, DigestMismatchError, "digest", one, add=False)
    assert ingest(state) == []


@pytest.mark.parametrize("size", [-1, 1, 10])
def test_wrong_size_leaves_nothing(state: Path, registry: FaultyRegistry, size: int) -> None:
    one = layer()
    registry.add_blob(one.blob)
    wrong = replace(one.descriptor, size=len(one.blob) + size)
    wanted = [LayerRequest(wrong, one.diff_id, Source(one.digest, [registry.url]))]

    async def body(store: LayerStore) -> None:
        with pytest.raises(DigestMismatchError):
            await store.materialize(wanted, NoProgress())

    run(state, body)
    assert ingest(state) == []
    assert blobs(state) == set()


def test_wrong_diff_id_leaves_nothing(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    one.diff_id = Digest.of(b"another")
    fails(state, registry, DigestMismatchError, "diff_id", one)
    assert ingest(state) == []


def test_trailing_bytes_count(state: Path, registry: FaultyRegistry) -> None:
    pull(state, registry, Layer(layer().tar + b"trailing" * 1000))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no tar at all" * 100, "Malformed"),
        (Tar().file("../x").bytes(), r"\.\."),
        (Tar().file("f", uid=2**40).bytes(), "out of range"),
        (Tar().hardlink("h", "nowhere").bytes(), "no layer has"),
        (Tar().add("x", b"3", device=(0, 0)).bytes(), "disguise"),
    ],
)
def test_bad_layers_leave_nothing(state: Path, registry: FaultyRegistry, content: bytes, match: str) -> None:
    with pytest.raises(LayerError, match=match):
        pull(state, registry, layer(seed=5), Layer(content))
    assert leftovers(state) == []
    assert ingest(state) in ([], [f"{layer(seed=5).digest.hex}.partial"])


def test_limits(state: Path, registry: FaultyRegistry) -> None:
    bomb = Layer(Tar().file("zeros", bytes(40 << 20)).bytes())
    fails(state, registry, LayerError, "limit", bomb, images=ImagesConfig(max_unpacked_bytes=10 << 20))
    fails(state, registry, LayerError, "entries", layer(), images=ImagesConfig(max_entries=5))
    fails(state, registry, LayerError, "2 layers", layer(), layer(), images=ImagesConfig(max_layers=1))


def test_limit_is_the_images(state: Path, registry: FaultyRegistry) -> None:
    layers = [layer(seed=seed) for seed in range(8)]
    limits = ImagesConfig(max_unpacked_bytes=1 << 20)
    with pytest.raises(LayerError, match="limit"):
        pull(state, registry, *layers, images=limits)
    assert 0 < len(list((state / "layers").iterdir())) < len(layers)


def test_one_blob_with_two_diff_ids(state: Path, registry: FaultyRegistry) -> None:
    one, liar = layer(), layer()
    liar.diff_id = Digest.of(b"another")
    with pytest.raises(DigestMismatchError, match="diff_id"):
        pull(state, registry, one, liar, one)
    pull(state, registry, one)


def test_wrong_diff_id_keeps_the_local_blob(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    pull(state, registry, one)
    one.diff_id = Digest.of(b"another")
    with pytest.raises(DigestMismatchError, match="diff_id"):
        pull(state, registry, one)
    assert blobs(state) == {one.digest.hex}
    assert len(registry.requested("/blobs/")) == 1


def test_one_bad_layer_stops_the_others(state: Path, registry: FaultyRegistry) -> None:
    registry.fault(str(layer(seed=2).digest), Stall(after=1000), forever=True)
    with pytest.raises(LayerError):
        pull(state, registry, Layer(b"nonsense" * 100), layer(seed=2))


# ---------------------------------------------------------------- canary, confinement


def test_worker_can_not_leave_its_directory(state: Path, registry: FaultyRegistry) -> None:
    canary = state.parent / "canary"
    tar = Tar()
    for number, target in enumerate((str(canary), "../../../../canary", f"../../../../../../../../..{canary}")):
        tar.symlink(f"s{number}", target).file(f"s{number}/file", b"overwritten").file(f"s{number}/.wh.x")
        tar.hardlink(f"h{number}", f"s{number}/file").directory(f"s{number}/d", mode=0o777)
    pull(state, registry, Layer(tar.bytes()))


def test_worker_is_confined(state: Path, registry: FaultyRegistry) -> None:
    registry.add_blob(layer().blob)
    registry.fault("/blobs/", Stall(after=1000), forever=True)

    async def body(store: LayerStore) -> None:
        pulling = asyncio.create_task(store.materialize(requests([layer()], registry.url), NoProgress()))
        pid = await child(store)
        kept = f"{sum(1 << number for number in (0, 1, 3, 4, 21, 27, 31)):016x}"
        while process_status(pid)["CapEff"] != kept:
            await asyncio.sleep(0.01)
        status = process_status(pid)
        assert status["NoNewPrivs"] == "1"
        assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {kept}
        pulling.cancel()
        await asyncio.wait([pulling])

    run(state, body)


def process_status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def children_of(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def child(store: LayerStore) -> int:
    """The pid of the one worker that is at work."""
    while True:
        if store._workers.pid is not None and (children := children_of(store._workers.pid)):
            return children[0]
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------- jobs that end early


def test_killed_worker(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    registry.add_blob(one.blob)
    registry.fault("/blobs/", Stall(after=200_000))

    async def body(store: LayerStore) -> None:
        pulling = asyncio.create_task(store.materialize(requests([one], registry.url), NoProgress()))
        pid = await child(store)
        while not registry.requested("/blobs/"):
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="died"):
            await pulling
        # And what it had is resumed.
        await store.materialize(requests([one], registry.url), NoProgress())

    run(state, body)


def test_cancelled_pull_leaves_no_process(state: Path, registry: FaultyRegistry) -> None:
    registry.add_blob(layer().blob)
    registry.fault("/blobs/", Stall(after=1000), forever=True)

    async def body(store: LayerStore) -> None:
        pulling = asyncio.create_task(store.materialize(requests([layer()], registry.url), NoProgress()))
        pid = await child(store)
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        # It has closed all it had open; the kernel may take a moment for the rest.
        while start_time(pid) is not None:
            await asyncio.sleep(0.01)

    run(state, body)


def test_two_who_want_the_same(state: Path, registry: FaultyRegistry) -> None:
    layers = [layer(seed=1), layer(seed=2)]
    for one in layers:
        registry.add_blob(one.blob)
    listeners = [Listener() for _ in range(4)]

    async def body(store: LayerStore) -> None:
        images = await asyncio.gather(
            *(store.materialize(requests(layers, registry.url), heard) for heard in listeners)
        )
        assert all(image == images[0] for image in images)

    run(state, body)
    assert len(registry.requested("/blobs/")) == 2
    assert all(LayerState.DONE in listener.states() for listener in listeners)


def test_one_who_gives_up_does_not_stop_the_other(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    registry.add_blob(one.blob)
    registry.fault("/blobs/", Stall(after=100_000))

    async def body(store: LayerStore) -> None:
        first, second = (
            asyncio.create_task(store.materialize(requests([one], registry.url), NoProgress())) for _ in range(2)
        )
        await child(store)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second

    run(state, body)


def test_close_ends_everything(state: Path, registry: FaultyRegistry) -> None:
    registry.add_blob(layer().blob)
    registry.fault("/blobs/", Stall(after=1000), forever=True)
    pulling: list[asyncio.Task[object]] = []

    async def body(store: LayerStore) -> None:
        pulling.append(asyncio.create_task(store.materialize(requests([layer()], registry.url), NoProgress())))
        await child(store)

    run(state, body)
    assert pulling[0].cancelled()


DAEMON = """
import asyncio, sys
from pathlib import Path
from lxdpy.config import Config
from lxdpy.drivers.base import LayerRequest
from lxdpy.drivers.store import LayerStore
from lxdpy.oci.digest import Digest
from tests.system.test_store import NoProgress, Source, layer, requests

async def main():
    store = LayerStore(Config(state_dir=Path(sys.argv[1])))
    await store.materialize(requests([layer()], sys.argv[2]), NoProgress())

asyncio.run(main())
"""


def test_killed_daemon_leaves_no_process(state: Path, registry: FaultyRegistry) -> None:
    registry.add_blob(layer().blob)
    registry.fault("/blobs/", Stall(after=200_000))
    with subprocess.Popen([sys.executable, "-c", DAEMON, state, registry.url], cwd=ROOT) as daemon:
        while not registry.requested("/blobs/"):
            time.sleep(0.01)
        (zygote,) = children_of(daemon.pid)
        (worker,) = children_of(zygote)
        daemon.kill()
    deadline = time.monotonic() + 20
    while any(start_time(pid) is not None for pid in (zygote, worker)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # The next one sweeps, and resumes.
    pull(state, registry, layer())
    assert registry.requested("/blobs/")[-1].headers["range"].startswith("bytes=")


# ---------------------------------------------------------------- space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=300", "lxdpy-test", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_full_disk(small_disk: Path, registry: FaultyRegistry) -> None:
    dense = Layer(Tar().file("zeros", bytes(40 << 20)).bytes())
    fails(small_disk, registry, NoSpaceError, "No space left", dense)
    assert ingest(small_disk) == []
    many = Tar()
    for number in range(500):
        many.file(f"f{number}")
    fails(small_disk, registry, NoSpaceError, "No space left", Layer(many.bytes()))
    assert ingest(small_disk) == []


def test_disk_that_will_not_do(small_disk: Path, registry: FaultyRegistry) -> None:
    fails(small_disk, registry, NoSpaceError, "need about .* MiB, and . MiB are available", layer(3 << 20))
    assert registry.requested() == []


# ---------------------------------------------------------------- local blobs, restarts


def test_local_blob_needs_no_network(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    (layer_id,) = pull(state, registry, one)
    remove(state / "layers" / layer_id)

    async def body(store: LayerStore) -> None:
        (stored,) = await store.materialize(requests([one]), NoProgress())
        assert stored.id == layer_id

    run(state, body)
    assert len(registry.requested("/blobs/")) == 1


def test_nowhere_to_be_found(state: Path, registry: FaultyRegistry) -> None:
    one = layer()

    async def body(store: LayerStore) -> None:
        with pytest.raises(NotFoundError):
            await store.materialize(requests([one]), NoProgress())
        with pytest.raises(NotFoundError):
            store.lower_mounts(["d-nothing"])
        assert store.layer("d-nothing") is None

    run(state, body)
    (layer_id,) = pull(state, registry, one)
    remove(state / "layers" / layer_id)
    (state / "blobs/sha256" / one.digest.hex).write_bytes(b"x" * len(one.blob))
    run(state, body)


def test_damaged_local_blob_is_fetched_again(state: Path, registry: FaultyRegistry) -> None:
    one = layer()
    (layer_id,) = pull(state, registry, one)
    remove(state / "layers" / layer_id)
    (state / "blobs/sha256" / one.digest.hex).write_bytes(b"x" * len(one.blob))
    pull(state, registry, one)
    assert len(registry.requested("/blobs/")) == 2


def test_start_sweeps_what_was_left(state: Path, registry: FaultyRegistry) -> None:
    (layer_id,) = pull(state, registry, layer())
    (state / "layers/.tmp-dead/fs/a/b").mkdir(parents=True)
    (state / "layers/c-broken/fs").mkdir(parents=True)
    (state / "blobs/sha256/.tmp-dead").write_bytes(b"x")
    old, young = state / "ingest/old.partial", state / "ingest/young.partial"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))

    async def body(store: LayerStore) -> None:
        assert store.layer(layer_id) is not None
        assert store.layer("c-broken") is None
        while leftovers(state) or old.exists() or ".tmp-dead" in blobs(state):
            await asyncio.sleep(0.01)

    run(state, body)
    assert young.exists()
    assert sorted(path.name for path in (state / "layers").iterdir()) == [layer_id]


def test_layers_that_a_power_cut_took(state: Path, registry: FaultyRegistry) -> None:
    durable, volatile = layer(seed=1), layer(seed=2)
    ids = pull(state, registry, durable, volatile)
    for layer_id, is_durable in zip(ids, (True, False), strict=True):
        meta = state / "layers" / layer_id / "meta.json"
        document = json.loads(meta.read_text())
        assert document["durable"] is False
        meta.write_text(json.dumps({**document, "boot_id": "another", "durable": is_durable}))

    async def body(store: LayerStore) -> None:
        assert store.layer(ids[0]) is not None
        assert store.layer(ids[1]) is None
        # Rebuilt from the blobs that are here.
        await store.materialize(requests([durable, volatile]), NoProgress())
        assert store.layer(ids[1]) is not None

    run(state, body)


def test_sync_makes_layers_durable(state: Path, registry: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lxdpy.drivers.store.store._SYNC_DELAY_S", 0.01)
    one = layer()
    registry.add_blob(one.blob)

    async def body(store: LayerStore) -> None:
        (stored,) = await store.materialize(requests([one], registry.url), NoProgress())
        meta = state / "layers" / stored.id / "meta.json"
        while not json.loads(meta.read_text())["durable"]:
            await asyncio.sleep(0.01)

    run(state, body)


# ---------------------------------------------------------------- documents, garbage


def test_documents(state: Path) -> None:
    async def body(store: LayerStore) -> None:
        data = b'{"a": "document"}'
        digest = Digest.of(data)
        assert store.read_blob(digest) is None
        store.write_blob(digest, data)
        assert store.read_blob(digest) == data
        with pytest.raises(DigestMismatchError):
            store.write_blob(digest, b"another")
        path = state / "blobs/sha256" / digest.hex
        path.write_bytes(b"damaged")
        assert store.read_blob(digest) is None
        store.write_blob(digest, data)
        assert store.read_blob(digest) == data

    run(state, body)


def test_collect(state: Path, registry: FaultyRegistry) -> None:
    first, second, third = (layer(seed=seed) for seed in range(3))
    for one in (first, second, third):
        registry.add_blob(one.blob)

    async def body(store: LayerStore) -> None:
        images = [
            await store.materialize(requests(layers, registry.url), NoProgress())
            for layers in ([first, second], [second, third])
        ]
        ids = [[entry.id for entry in image] for image in images]
        assert (await store.collect(set(), set())).layers == 0
        store.release(ids[1])
        gone = await store.collect(set(), {third.digest})
        assert (gone.layers, gone.blobs) == (1, 0)
        assert gone.size_bytes == images[1][1].size_bytes
        assert store.layer(ids[1][1]) is None
        store.release(ids[0])
        gone = await store.collect({ids[0][0]}, {first.digest})
        assert (gone.layers, gone.blobs) == (1, 2)
        assert store.layer(ids[0][0]) is not None
        assert leftovers(state) == []

    run(state, body)
    assert blobs(state) == {first.digest.hex}


def test_collect_spares_what_is_being_pulled(state: Path, registry: FaultyRegistry) -> None:
    first, second = layer(seed=1), layer(seed=2)
    for one in (first, second):
        registry.add_blob(one.blob)
    registry.fault(str(second.digest), Stall(after=1000), Pass())

    async def body(store: LayerStore) -> None:
        pulling = asyncio.create_task(store.materialize(requests([first, second], registry.url), NoProgress()))
        while store.layer(f"d-{first.diff_id.hex}") is None:
            await asyncio.sleep(0.01)
        gone = await store.collect(set(), set())
        assert (gone.layers, gone.blobs) == (0, 0)
        store.release([entry.id for entry in await pulling])
        assert (await store.collect(set(), set())).layers == 2

    run(state, body)
