import asyncio
import os
from collections.abc import Callable

import pytest

from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, RegistryError, WorkerError
from lxdpy.oci.digest import Digest
from lxdpy.progress import NoProgress
from lxdpy.services.images import ImageSource
from tests.fakes.drivers import image_documents
from tests.unit.services.conftest import Host

ALPINE = ImageSource(alias="alpine:3.20", protocol="oci")
Play = Callable[..., None]


async def pull(host: Host, source: ImageSource = ALPINE, *layers: bytes, **config: object) -> str:
    reference = str(source.reference("docker.io"))
    host.registry.images[reference] = image_documents(layers or (b"one", b"two"), **config)
    found = await host.images.find(source, refresh=True)
    assert found.resolved is not None
    return (await host.images.pull(found.resolved, NoProgress())).fingerprint


def test_pull_records_the_image_and_a_new_daemon_knows_it(play: Play) -> None:
    async def first(host: Host) -> None:
        fingerprint = await pull(host)
        assert host.events == [("image-created", f"/1.0/images/{fingerprint}")]
        assert host.store.held == []

    async def second(host: Host) -> None:
        (image,) = host.images.all()
        assert image.reference == "docker.io/library/alpine:3.20"
        assert len(image.layers) == 2
        assert host.images.lookup("alpine:3.20") == host.images.lookup("docker.io/library/alpine:3.20") == image
        assert host.images.get(image.fingerprint[:12]) == image
        assert image.manifest_digest in host.store.blobs
        assert image.config_digest is not None
        assert host.images.config(image.config_digest).entrypoint == ("/bin/sh",)

    play(first, second)


def test_an_image_that_is_here_is_taken_without_asking_the_registry(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await pull(host)
        asked = list(host.registry.asked)
        found = await host.images.find(ALPINE)
        assert found.record is not None
        assert found.resolved is None
        assert host.registry.asked == asked

    play(scenario)


def test_unknown_images(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(NotFoundError, match=r"docker\.io"):
            await host.images.find(ALPINE)
        for source in (ImageSource(alias="none"), ImageSource(fingerprint="abc")):
            with pytest.raises(NotFoundError, match="not found"):
                await host.images.find(source)
        with pytest.raises(InvalidRequestError, match="alias"):
            await host.images.find(ImageSource())

    play(scenario)


def test_a_failed_pull_leaves_no_image(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.store.failure = RegistryError("cut")
        with pytest.raises(RegistryError, match="cut"):
            await pull(host)
        assert host.images.all() == []
        assert host.images.aliases.all() == []
        assert host.store.held == []

    play(scenario)


def test_an_environment_with_line_breaks_is_refused_before_the_download(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError, match="line break"):
            await pull(host, ALPINE, b"one", Env=["A=b\nlxc.hook.start-host=/bin/sh"])
        assert host.store.layers == {}

    play(scenario)


def test_too_many_layers_are_refused_before_the_download(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError, match="401 layers, the limit is 400"):
            await pull(host, ALPINE, *(b"%d" % number for number in range(401)))
        assert host.store.layers == {}

    play(scenario)


def test_a_tag_that_moved_takes_its_alias_along(play: Play) -> None:
    async def scenario(host: Host) -> None:
        old = await pull(host, ALPINE, b"one")
        new = await pull(host, ALPINE, b"two")
        assert old != new
        assert {image.fingerprint for image in host.images.all()} == {old, new}
        assert host.images.lookup("alpine:3.20").fingerprint == new
        assert host.images.aliases.of(old) == []

    play(scenario)


def test_deleting_an_image_frees_what_only_it_had(play: Play) -> None:
    async def scenario(host: Host) -> None:
        one = await pull(host, ALPINE, b"shared", b"own")
        await pull(host, ImageSource(alias="other", protocol="oci"), b"shared")
        await host.images.delete(one)
        assert len(host.store.layers) == 1
        assert Digest("sha256", one) not in host.store.blobs
        with pytest.raises(NotFoundError):
            host.images.get(one)
        with pytest.raises(NotFoundError):
            host.images.aliases.get("alpine:3.20")

    play(scenario)


def test_what_is_pinned_or_referred_to_is_not_collected(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await pull(host, ALPINE, b"one")
        (image,) = host.images.all()
        with host.images.garbage.pin(image.layers, image.blobs):
            await host.images.delete(image.fingerprint)
            assert set(host.store.layers) == set(image.layers)
            assert set(image.blobs) >= set(host.store.blobs) != set()
        await host.images.garbage.collect()
        assert host.store.layers == {}
        assert host.store.blobs == {}

    play(scenario)


def test_two_pulls_of_one_image_at_once(play: Play) -> None:
    async def scenario(host: Host) -> None:
        first, second = await asyncio.gather(pull(host), pull(host))
        assert first == second
        assert len(host.images.all()) == 1

    play(scenario)


def test_ancestry_is_newest_first(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host, ALPINE, b"base", b"top")
        newest, oldest = host.images.ancestry(fingerprint)
        assert oldest.chain_id == oldest.diff_id
        assert newest.chain_id == Digest.of(f"{oldest.chain_id} {newest.diff_id}".encode())
        assert (newest.digest, newest.size_bytes) == (Digest.of(b"top"), 3)
        assert [entry.history.created_by for entry in (newest, oldest)] == ["step 1", "step 0"]

    play(scenario)


def test_aliases(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host)
        await host.images.add_alias("mine", fingerprint[:10], "about")
        with pytest.raises(ConflictError, match="already exists"):
            await host.images.add_alias("mine", fingerprint, "")
        with pytest.raises(NotFoundError):
            await host.images.add_alias("other", "ffff", "")
        assert host.images.lookup("mine").fingerprint == fingerprint
        await host.images.aliases.delete("mine")
        with pytest.raises(NotFoundError):
            host.images.aliases.get("mine")

    play(scenario)


@pytest.mark.parametrize(
    ("server", "alias", "registry"),
    [
        ("", "alpine", "docker.io"),
        ("https://docker.io", "alpine", "docker.io"),
        ("https://r.example:5000", "app", "r.example:5000"),
        ("r.example", "ghcr.io/org/app:1", "ghcr.io"),
    ],
)
def test_servers(server: str, alias: str, registry: str) -> None:
    assert ImageSource(alias=alias, server=server, protocol="oci").reference("docker.io").registry == registry


@pytest.mark.parametrize("server", ["ftp://x", "https://u:p@x", "https://x/path", "https://"])
def test_bad_servers(server: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid image server"):
        ImageSource(alias="a", server=server).reference("docker.io")


def test_one_of_two_who_want_an_alias_gets_it(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host)
        results = await asyncio.gather(
            *(host.images.add_alias("mine", fingerprint, text) for text in "ab"), return_exceptions=True
        )
        assert [type(result).__name__ for result in results] == ["AliasRecord", "ConflictError"]
        await host.images.load()
        assert host.images.aliases.get("mine").description == "a"

    play(scenario)


def test_no_alias_points_at_an_image_that_was_deleted_meanwhile(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host)
        deleting = asyncio.create_task(host.images.delete(fingerprint))
        await asyncio.sleep(0)
        with pytest.raises(NotFoundError):
            await host.images.add_alias("mine", fingerprint, "")
        await deleting
        assert host.images.aliases.all() == []
        for name in ("mine", "alpine:3.20"):
            with pytest.raises(NotFoundError):
                host.images.lookup(name)

    play(scenario)


def test_an_image_stays_when_its_deletion_fails(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host)
        await host.database.run(lambda db: db.execute("PRAGMA query_only = 1"))
        with pytest.raises(WorkerError):
            await host.images.delete(fingerprint)
        assert host.images.get(fingerprint).fingerprint == fingerprint
        assert host.images.lookup("alpine:3.20").fingerprint == fingerprint

    play(scenario)


def test_a_description_outlives_a_new_pull(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host)
        await host.images.aliases.delete("alpine:3.20")
        await host.images.add_alias("alpine:3.20", fingerprint, "ours")
        await pull(host, ALPINE, b"newer")
        assert host.images.aliases.get("alpine:3.20").description == "ours"
        assert host.images.aliases.get("alpine:3.20").fingerprint != fingerprint

    play(scenario)


def test_the_stores_index_names_every_alias(play: Play) -> None:
    async def scenario(host: Host) -> None:
        fingerprint = await pull(host)
        await host.images.add_alias("mine", fingerprint, "")
        manifest = Digest("sha256", fingerprint)
        assert host.store.index == {"alpine:3.20": manifest, "mine": manifest}
        await host.images.aliases.delete("mine")
        assert host.store.index == {"alpine:3.20": manifest}
        await host.images.delete(fingerprint)
        assert host.store.index == {}

    play(scenario)


def test_a_reference_nobody_pulled_is_looked_up_shown_and_pulled_by_its_fingerprint(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["ghcr.io/org/app:1"] = image_documents((b"one", b"two"))
        alias = await host.images.find_alias("ghcr.io/org/app:1")
        shown = host.images.show(alias.fingerprint)
        assert (shown.reference, shown.architecture, shown.layers) == ("ghcr.io/org/app:1", os.uname().machine, ())
        assert host.images.all() == []
        found = await host.images.find(ImageSource(fingerprint=alias.fingerprint))
        assert found.resolved is not None
        pulled = await host.images.pull(found.resolved, NoProgress())
        assert pulled.fingerprint == alias.fingerprint
        assert host.images.aliases.get("ghcr.io/org/app:1").fingerprint == alias.fingerprint
        # Once it is here, it is taken as it is.
        assert (await host.images.find(ImageSource(fingerprint=alias.fingerprint))).record == pulled
        assert (await host.images.find(ImageSource(alias="ghcr.io/org/app:1"))).record == pulled
        assert len(host.registry.asked) == 1

    play(scenario)


def test_what_was_looked_up_ends_with_the_daemon_and_that_is_said(play: Play) -> None:
    fingerprint = ""

    async def first(host: Host) -> None:
        nonlocal fingerprint
        host.registry.images["docker.io/library/alpine:3.20"] = image_documents()
        fingerprint = (await host.images.find_alias("alpine:3.20")).fingerprint

    async def second(host: Host) -> None:
        with pytest.raises(NotFoundError, match="name it again"):
            await host.images.find(ImageSource(fingerprint=fingerprint))

    play(first, second)


def test_errors_say_why_a_name_leads_to_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(NotFoundError, match=r'not found.*as "alpine:latest"'):
            host.images.show("alpine")
        with pytest.raises(NotFoundError, match=r'not found.*as "alpine:latest"'):
            await host.images.find(ImageSource(alias="alpine"))
        assert host.registry.asked == []
        with pytest.raises(NotFoundError, match=r"registry docker\.io"):
            await host.images.find_alias("alpin:3.20")
        with pytest.raises(NotFoundError, match=r"registry docker\.io"):
            host.images.show("alpin:3.20")
        assert len(host.registry.asked) == 1

    play(scenario)


def test_an_incus_source_may_hold_a_digest(play: Play) -> None:
    async def scenario(host: Host) -> None:
        manifest, config = image_documents()
        pin = Digest.of(manifest)
        host.registry.images[f"docker.io/library/alpine@{pin}"] = (manifest, config)
        source = ImageSource(alias=f"alpine@{pin}", server="https://docker.io", protocol="oci", fingerprint="f" * 64)
        found = await host.images.find(source)
        assert found.resolved is not None
        assert (await host.images.pull(found.resolved, NoProgress())).fingerprint == pin.hex

    play(scenario)
