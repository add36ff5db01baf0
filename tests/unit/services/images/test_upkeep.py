"""Images of image servers: fetched once, kept up to date, expired. No test waits: the time is given."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping

import pytest

from lxdpy.db.images import ImageRecord
from lxdpy.drivers.base import RemoteImage
from lxdpy.errors import ConflictError, InvalidRequestError, NotFoundError, RegistryError, UnsupportedError
from lxdpy.progress import LayerProgress, NoProgress
from lxdpy.services.images import ImageDetails, ImageSource
from lxdpy.services.projects import ProjectSettings
from tests.fakes.drivers import image_documents
from tests.unit.services.conftest import Host

Play = Callable[..., None]

SERVER = "https://images.example"
ALPINE = ImageSource(alias="alpine/3.20", server=SERVER, protocol="simplestreams")
DAY_S = 86_400.0


class Notes:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[Mapping[str, object]] = []

    def layer(self, update: LayerProgress) -> None:
        pass

    def note(self, values: Mapping[str, object]) -> None:
        self.notes.append(values)


def publish(host: Host, version: str = "1", name: str = ALPINE.alias, **changes: object) -> RemoteImage:
    metadata = json.dumps({"metadata.yaml": f"architecture: x86_64\ncreation_date: 1700000000\n# {version}"}).encode()
    return host.servers.publish(SERVER, name, metadata, f"rootfs {version}".encode(), **changes)


async def launch(host: Host, source: ImageSource = ALPINE) -> ImageRecord:
    return await host.images.fetch_for_instance(await host.images.find(source), NoProgress())


async def copy(host: Host, source: ImageSource = ALPINE, **wanted: object) -> ImageRecord:
    found = await host.images.find(source, refresh=True)
    return await host.images.fetch(found, ImageDetails(**wanted), NoProgress())  # type: ignore[arg-type]


def test_an_image_that_an_instance_needed_is_cached(play: Play) -> None:
    async def first(host: Host) -> None:
        offered = publish(host, expires_at=99.0)
        progress = Notes()
        found = await host.images.find(ALPINE)
        image = await host.images.fetch_for_instance(found, progress)
        assert image.fingerprint == offered.fingerprint
        assert (image.cached, image.auto_update, image.public) == (True, True, False)
        assert (image.protocol, image.server, image.reference) == ("simplestreams", SERVER, "alpine/3.20")
        assert image.properties["os"] == "Busybox"
        assert (image.filename, image.expires_at) == ("lxd.tar.xz", 99.0)
        texts = [str(note["download_progress"]) for note in progress.notes]
        assert [text[: text.index("%")] for text in texts] == ["metadata: 100", "rootfs: 100"]
        assert host.images.aliases.all() == []

    async def second(host: Host) -> None:
        (image,) = host.images.all()
        assert (image.cached, image.auto_update, image.server) == (True, True, SERVER)

    play(first, second)


def test_the_next_instance_needs_no_server_while_the_image_is_kept_up_to_date(play: Play) -> None:
    async def scenario(host: Host) -> None:
        image = await launch_published(host)
        publish(host, "2")
        assert await launch(host) == image
        assert host.servers.asked == [(SERVER, "alpine/3.20")]
        await host.server_config.update(lambda _: {"images.auto_update_interval": "0"})
        newer = await launch(host)
        assert newer.fingerprint != image.fingerprint
        assert len(host.servers.asked) == 2

    play(scenario)


async def launch_published(host: Host) -> ImageRecord:
    publish(host)
    return await launch(host)


def test_without_auto_update_the_server_is_asked_and_nothing_fetched_twice(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.server_config.update(lambda _: {"images.auto_update_cached": "false"})
        image = await launch_published(host)
        assert not image.auto_update
        fetched = list(host.store.fetched)
        assert (await launch(host)).fingerprint == image.fingerprint
        assert host.store.fetched == fetched
        assert len(host.servers.asked) == 2

    play(scenario)


def test_two_who_want_it_fetch_it_once(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host)
        images = await asyncio.gather(launch(host), launch(host), copy(host))
        assert len({image.fingerprint for image in images}) == 1
        assert len(host.store.fetched) == 2
        assert not host.images.all()[0].cached

    play(scenario)


def test_an_image_by_its_fingerprint_is_never_another_one(play: Play) -> None:
    async def scenario(host: Host) -> None:
        offered = publish(host)
        name = offered.fingerprint[:12]
        host.servers.images[SERVER, name] = offered
        # As `lxc image copy` has it: whatever was typed is in fingerprint.
        image = await copy(
            host, ImageSource(fingerprint=name, server=SERVER, protocol="simplestreams"), auto_update=True
        )
        assert (image.reference, image.auto_update) == (name, False)

    play(scenario)


def test_a_copy_is_kept_and_may_have_names(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host)
        await host.images.add_alias("mine", (await launch_other(host)).fingerprint, "")
        with pytest.raises(ConflictError, match="mine"):
            await copy(host, aliases={"mine": ""})
        image = await copy(
            host, aliases={"alpine": "a test"}, auto_update=True, public=True, properties={"owner": "me"}
        )
        assert (image.cached, image.auto_update, image.public) == (False, True, True)
        assert image.properties == {"os": "Busybox", "owner": "me"}
        assert host.images.aliases.get("alpine").fingerprint == image.fingerprint

    play(scenario)


async def launch_other(host: Host) -> ImageRecord:
    publish(host, "other", "other")
    return await launch(host, ImageSource(alias="other", server=SERVER, protocol="simplestreams"))


def test_a_copy_of_a_cached_image_makes_it_one_to_keep(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.server_config.update(lambda _: {"images.auto_update_cached": "false"})
        cached = await launch_published(host)
        image = await copy(host, aliases={"alpine": ""}, auto_update=True)
        assert image.fingerprint == cached.fingerprint
        assert (image.cached, image.auto_update) == (False, True)
        assert await launch(host) == image
        await host.images.add_alias("mine", (await launch_other(host)).fingerprint, "")
        with pytest.raises(ConflictError, match="mine"):
            await copy(host, aliases={"mine": ""})

    play(scenario)


def test_what_cannot_be_found(play: Play) -> None:
    async def scenario(host: Host) -> None:
        for source, kind in (
            (ALPINE, NotFoundError),
            (ImageSource(server=SERVER, protocol="simplestreams"), InvalidRequestError),
            (ImageSource(alias="a", server=SERVER, protocol="lxd"), UnsupportedError),
        ):
            with pytest.raises(kind):
                await host.images.find(source)

    play(scenario)


def test_the_wanted_architecture_comes_first(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await launch_published(host)
        assert host.servers.architectures[0][0] == os.uname().machine
        if os.uname().machine == "x86_64":
            await host.server_config.update(lambda _: {"images.default_architecture": "i686"})
            await copy(host)
            assert host.servers.architectures == [("i686", "i386"), ("x86_64", "amd64")]

    play(scenario)


def test_a_failed_download_leaves_nothing(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host)
        host.store.failure = RegistryError("cut")
        with pytest.raises(RegistryError, match="cut"):
            await launch(host)
        assert host.images.all() == []
        host.store.failure = None
        await launch(host)

    play(scenario)


def test_files_that_are_no_image_do_not_stay(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.servers.publish(
            SERVER, ALPINE.alias, json.dumps({"metadata.yaml": "architecture: none"}).encode(), b"rootfs"
        )
        with pytest.raises(InvalidRequestError):
            await launch(host)
        assert host.images.all() == []
        assert host.store.blobs == {}
        assert host.store.layers == {}

    play(scenario)


def test_another_file_than_the_server_says_is_no_image(play: Play) -> None:
    async def scenario(host: Host) -> None:
        offered = publish(host)
        with pytest.raises(InvalidRequestError, match="Fingerprints don't match"):
            await host.images.import_files(
                await host.images._remote.fetch(offered, "", NoProgress()), ImageDetails(fingerprint="0" * 64)
            )
        assert host.images.all() == []

    play(scenario)


# ---- refresh


def test_a_newer_image_takes_the_place_of_the_old_one(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host)
        old = await copy(host, aliases={"alpine": "a test", "linux": ""}, auto_update=True, public=True)
        await host.images.touch(old.fingerprint)
        used = host.images.get(old.fingerprint).last_used_at
        assert not await host.upkeep.refresh(old.fingerprint[:12], NoProgress())
        publish(host, "2")
        assert await host.upkeep.refresh(old.fingerprint, NoProgress())
        (new,) = host.images.all()
        assert new.fingerprint != old.fingerprint
        assert (new.cached, new.auto_update, new.public, new.last_used_at) == (False, True, True, used)
        assert {alias.name: alias.description for alias in host.images.aliases.of(new.fingerprint)} == {
            "alpine": "a test",
            "linux": "",
        }
        assert host.events[-2:] == [
            ("image-deleted", f"/1.0/images/{old.fingerprint}"),
            ("image-refreshed", f"/1.0/images/{new.fingerprint}"),
        ]
        assert set(host.store.blobs) == set(new.blobs)

    async def second(host: Host) -> None:
        (new,) = host.images.all()
        assert {alias.fingerprint for alias in host.images.aliases.all()} == {new.fingerprint}

    play(scenario, second)


@pytest.mark.parametrize("registry", [False, True])
def test_a_newer_image_is_in_the_projects_of_the_old_one_alone(play: Play, registry: bool) -> None:
    async def scenario(host: Host) -> None:
        await host.projects.create("other", ProjectSettings())
        source = ImageSource(alias="alpine:3.20", protocol="oci") if registry else ALPINE
        for version in ("1", "2"):
            host.registry.images["docker.io/library/alpine:3.20"] = image_documents((version.encode(),))
            publish(host, version)
            if version == "1":
                old = await copy(host, source, auto_update=True, project="other", aliases={"mine": ""})
        assert old.projects == ("other",)
        assert await host.upkeep.refresh(old.fingerprint, NoProgress())
        (new,) = host.images.all()
        assert new.projects == ("other",)
        assert {alias.project for alias in host.images.aliases.of(new.fingerprint, None)} == {"other"}

    play(scenario)


def test_a_moved_tag_of_a_registry(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["docker.io/library/alpine:3.20"] = image_documents((b"one",))
        source = ImageSource(alias="alpine:3.20", protocol="oci")
        old = await copy(host, source, auto_update=True, aliases={"mine": ""})
        assert old.auto_update
        assert await host.upkeep.update_all(NoProgress()) == 0
        host.registry.images["docker.io/library/alpine:3.20"] = image_documents((b"two",))
        assert await host.upkeep.update_all(NoProgress()) == 1
        (new,) = host.images.all()
        assert new.fingerprint != old.fingerprint
        assert new.auto_update
        assert [alias.name for alias in host.images.aliases.of(new.fingerprint)] == ["alpine:3.20", "mine"]

    play(scenario)


def test_pulling_again_keeps_what_clients_have_set(play: Play) -> None:
    async def scenario(host: Host) -> None:
        host.registry.images["docker.io/library/alpine:3.20"] = image_documents((b"one",))
        source = ImageSource(alias="alpine:3.20", protocol="oci")
        await copy(host, source, auto_update=True, public=True)
        image = await copy(host, source)
        assert (image.auto_update, image.public) == (True, True)

    play(scenario)


def test_only_what_is_to_be_kept_up_to_date_is(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host)
        old = await copy(host)
        publish(host, "2")
        assert await host.upkeep.update_all(NoProgress()) == 0
        assert host.images.get(old.fingerprint) == old

    play(scenario)


def test_a_server_that_fails_costs_no_image_and_no_other_update(play: Play) -> None:
    async def scenario(host: Host) -> None:
        first = await launch_published(host)
        other = await launch_other(host)
        del host.servers.images[SERVER, "alpine/3.20"]
        publish(host, "newer", "other")
        assert await host.upkeep.update_all(NoProgress()) == 1
        here = {image.fingerprint for image in host.images.all()}
        assert first.fingerprint in here
        assert other.fingerprint not in here

    play(scenario)


def test_an_update_that_was_cut_short_is_done_later(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host)
        old = await copy(host, auto_update=True, aliases={"alpine": ""})
        newer = publish(host, "2")
        # The new one has come, and the daemon was killed before it took the old one's place.
        await copy(host)
        assert await host.upkeep.refresh(old.fingerprint, NoProgress())
        assert [image.fingerprint for image in host.images.all()] == [newer.fingerprint]
        assert host.images.aliases.get("alpine").fingerprint == newer.fingerprint

    play(scenario)


def test_what_came_from_nowhere_or_never_changes(play: Play) -> None:
    async def scenario(host: Host) -> None:
        manifest, config = image_documents((b"one",))
        pinned = ImageSource(alias=f"alpine@sha256:{'0' * 64}", protocol="oci")
        host.registry.images[str(pinned.reference("docker.io"))] = (manifest, config)
        image = await copy(host, pinned)
        with pytest.raises(InvalidRequestError, match="did not come from"):
            await host.upkeep.refresh(image.fingerprint, NoProgress())
        with pytest.raises(NotFoundError):
            await host.upkeep.refresh("0" * 64, NoProgress())

    play(scenario)


# ---- expiry


def test_a_cached_image_that_nobody_uses_expires(play: Play) -> None:
    async def scenario(host: Host) -> None:
        image = await launch_published(host)
        now = image.uploaded_at
        assert await host.upkeep.expire(now + 10 * DAY_S - 1) == []
        await host.images.touch(image.fingerprint)
        used = host.images.get(image.fingerprint).last_used_at
        assert await host.upkeep.expire(used + 10 * DAY_S - 1) == []
        await host.server_config.update(lambda _: {"images.remote_cache_expiry": "2"})
        assert await host.upkeep.expire(used + 2 * DAY_S) == [image.fingerprint]
        assert host.images.all() == []
        assert host.store.blobs == {}

    play(scenario)


def test_a_cached_image_whose_time_is_over_expires(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host, expires_at=5_000_000_000.0)
        image = await launch(host)
        await host.images.touch(image.fingerprint)
        await host.server_config.update(lambda _: {"images.remote_cache_expiry": "1000000"})
        assert await host.upkeep.expire(4_999_999_999.0) == []
        assert await host.upkeep.expire(5_000_000_000.0) == [image.fingerprint]

    play(scenario)


def test_what_was_asked_for_by_itself_does_not_expire(play: Play) -> None:
    async def scenario(host: Host) -> None:
        publish(host, expires_at=1.0)
        image = await copy(host)
        host.registry.images["docker.io/library/alpine:3.20"] = image_documents((b"one",))
        found = await host.images.find(ImageSource(alias="alpine:3.20"))
        pulled = await host.images.fetch_for_instance(found, NoProgress())
        assert not pulled.cached
        assert await host.upkeep.expire(image.uploaded_at + 1000 * DAY_S) == []
        assert len(host.images.all()) == 2

    play(scenario)
