"""Profiles, and the instances that have them."""

from collections.abc import Callable

import pytest

from lxdpy.errors import (
    AccessDeniedError,
    BusyError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedError,
)
from lxdpy.services.instances import ProfileSettings
from tests.unit.services.conftest import Host
from tests.unit.services.projects.test_service import make_instance

Play = Callable[..., None]

WHERE = "default"


def test_the_first_default_profile_is_made_once(play: Play) -> None:
    async def first(host: Host) -> None:
        profile = host.profiles.get(WHERE, "default")
        assert profile.devices["eth0"]["network"] == host.config.network.bridge
        assert profile.devices["root"] == {"type": "disk", "path": "/", "pool": "default"}
        await host.profiles.update(WHERE, "default", lambda current: ProfileSettings("edited"))

    async def second(host: Host) -> None:
        profile = host.profiles.get(WHERE, "default")
        assert (profile.description, profile.devices) == ("edited", {})

    play(first, second)


def test_what_profiles_give_follows_their_changes(play: Play) -> None:
    async def scenario(host: Host) -> None:
        changed: list[str] = []
        host.instances.on_change(changed.append)
        await host.profiles.create(WHERE, "a", ProfileSettings(config={"user.x": "a", "user.a": "a"}))
        await host.profiles.create(WHERE, "b", ProfileSettings(config={"user.x": "b", "user.b": "b"}))
        await make_instance(host, "web", profiles=("a", "b"), config={"user.b": "own"})

        def expanded() -> dict[str, str]:
            config = host.instances.get("web").expanded_config
            return {key: value for key, value in config.items() if key.startswith("user.")}

        assert expanded() == {"user.x": "b", "user.a": "a", "user.b": "own"}
        await host.profiles.update(WHERE, "b", lambda current: ProfileSettings(config={"user.x": "new"}))
        assert expanded() == {"user.x": "new", "user.a": "a", "user.b": "own"}
        assert changed[-1] == "web"

    play(scenario)


def test_renaming_follows_in_instances(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.profiles.create(WHERE, "a", ProfileSettings("d", {"user.x": "a"}))
        await make_instance(host, "web", profiles=("default", "a"))
        await host.profiles.rename(WHERE, "a", "b")
        assert host.instances.get("web").record.profiles == ("default", "b")
        assert ("profile-renamed", "/1.0/profiles/b") in host.events
        with pytest.raises(NotFoundError):
            host.profiles.get(WHERE, "a")

    async def later(host: Host) -> None:
        assert host.instances.get("web").record.profiles == ("default", "b")
        assert host.instances.get("web").expanded_config["user.x"] == "a"
        with pytest.raises(ConflictError):
            await host.profiles.rename(WHERE, "b", "default")

    play(scenario, later)


def test_what_is_in_use_stays(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.profiles.create(WHERE, "a", ProfileSettings())
        await make_instance(host, "web", profiles=("a",))
        with pytest.raises(InvalidRequestError, match="Profile is currently in use"):
            await host.profiles.delete(WHERE, "a")
        await host.instances.delete("web")
        with host.profiles.held(WHERE, ["a"]):
            with pytest.raises(BusyError):
                await host.profiles.delete(WHERE, "a")
            with pytest.raises(BusyError):
                await host.profiles.rename(WHERE, "a", "b")
        await host.profiles.delete(WHERE, "a")
        for what in (host.profiles.delete(WHERE, "default"), host.profiles.rename(WHERE, "default", "x")):
            with pytest.raises(AccessDeniedError):
                await what

    play(scenario)


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "a\nb", "x" * 300])
def test_names_that_cannot_be(play: Play, name: str) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError):
            await host.profiles.create(WHERE, name, ProfileSettings())

    play(scenario)


def test_content_that_cannot_be(play: Play) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequestError, match="Unknown configuration key: nonsense"):
            await host.profiles.create(WHERE, "a", ProfileSettings(config={"nonsense": "1"}))
        with pytest.raises(InvalidRequestError, match=r"volatile\.uuid"):
            await host.profiles.create(WHERE, "a", ProfileSettings(config={"volatile.uuid": "1"}))
        with pytest.raises(UnsupportedError):
            await host.profiles.create(WHERE, "a", ProfileSettings(devices={"x": {"type": "warp"}}))
        await host.profiles.create(WHERE, "a", ProfileSettings())
        with pytest.raises(ConflictError, match="already exists"):
            await host.profiles.create(WHERE, "a", ProfileSettings())
        with pytest.raises(InvalidRequestError):
            await host.profiles.update(WHERE, "a", lambda current: ProfileSettings(config={"nonsense": "1"}))
        assert host.profiles.get(WHERE, "a").config == {}

    play(scenario)


def test_a_root_disk_that_instances_rely_on_stays(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await make_instance(host, "web")
        with pytest.raises(InvalidRequestError, match="relies on this profile's root disk"):
            await host.profiles.update(WHERE, "default", lambda current: ProfileSettings("no devices"))
        assert "root" in host.instances.get("web").expanded_devices
        await host.instances.delete("web")
        await host.profiles.update(WHERE, "default", lambda current: ProfileSettings("no devices"))

    play(scenario)


def test_limits_of_a_profile_apply_at_once(play: Play) -> None:
    async def scenario(host: Host) -> None:
        await host.profiles.create(WHERE, "small", ProfileSettings())
        await make_instance(host, "web", profiles=("default", "small"))
        await make_instance(host, "own", profiles=("default", "small"), config={"limits.processes": "9"})
        for name in ("web", "own"):
            await host.instances.start(name)
        await host.profiles.update(WHERE, "small", lambda current: ProfileSettings(config={"limits.processes": "7"}))
        limits = {container.name: container.limits.processes for container in host.containers.started}
        assert limits == {"web": 7, "own": 9}
        await host.profiles.update(WHERE, "small", lambda current: ProfileSettings())
        limits = {container.name: container.limits.processes for container in host.containers.started}
        assert limits == {"web": None, "own": 9}

    play(scenario)
