"""The server's configuration: known keys, their values, what is kept."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from lxdpy.db.connection import Database
from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services.server_config import ServerConfig


class Place:
    """A configuration on a database, and what it announced."""

    def __init__(self, database: Database) -> None:
        self.events: list[tuple[str, str]] = []
        self.config = ServerConfig(database, self.announce, ("x86_64", "i686"))

    def announce(self, action: str, source: str, context: object = None) -> None:
        self.events.append((action, source))

    async def set(self, **values: object) -> Mapping[str, str]:
        named = {key.replace("__", "."): value for key, value in values.items()}
        await self.config.update(lambda current: {**current, **named})
        return self.config.values


def play(directory: Path, *scenarios: Callable[[Place], Awaitable[None]]) -> None:
    async def one(scenario: Callable[[Place], Awaitable[None]]) -> None:
        database = Database(directory / "lxdpy.db")
        try:
            place = Place(database)
            await place.config.load()
            await scenario(place)
        finally:
            database.close()

    for scenario in scenarios:
        asyncio.run(one(scenario))


def test_defaults(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        config = place.config
        assert config.values == {}
        assert config.auto_update_cached
        assert config.auto_update_interval_s == 6 * 3600
        assert config.remote_cache_expiry_s == 10 * 86_400
        assert config.default_architecture == ""
        assert config.text("images.compression_algorithm") == "gzip"

    play(tmp_path, scenario)


def test_what_is_set_outlives_the_daemon(tmp_path: Path) -> None:
    async def first(place: Place) -> None:
        await place.set(images__auto_update_interval="12", user__who="me")
        assert place.events == [("config-updated", "/1.0")]
        await place.set(user__who="me")
        assert len(place.events) == 1

    async def second(place: Place) -> None:
        assert place.config.values == {"images.auto_update_interval": "12", "user.who": "me"}
        assert place.config.auto_update_interval_s == 12 * 3600
        await place.config.update(lambda current: {"user.who": ""})

    async def third(place: Place) -> None:
        assert place.config.values == {}

    play(tmp_path, first, second, third)


def test_values_are_kept_in_one_form_and_defaults_are_not(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        values = await place.set(
            images__auto_update_cached="off",
            images__auto_update_interval=6,
            images__remote_cache_expiry="007",
            images__default_architecture="i686",
            images__compression_algorithm="zstd",
            user__flag=True,
            core__https_address="",
        )
        assert values == {
            "images.auto_update_cached": "false",
            "images.compression_algorithm": "zstd",
            "images.default_architecture": "i686",
            "images.remote_cache_expiry": "7",
            "user.flag": "true",
        }
        assert (await place.set(images__auto_update_cached=None)).get("images.auto_update_cached") is None
        assert place.config.auto_update_cached

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("key", "value", "kind", "text"),
    [
        ("foo", "bar", InvalidRequestError, "unknown key"),
        ("foo", "", InvalidRequestError, "unknown key"),
        ("user.", "bar", InvalidRequestError, "unknown key"),
        ("images.auto_update_interval", "-1", InvalidRequestError, "invalid integer"),
        ("images.auto_update_interval", "1.5", InvalidRequestError, "invalid integer"),
        ("images.remote_cache_expiry", "1" * 12, InvalidRequestError, "invalid integer"),
        ("images.auto_update_cached", "maybe", InvalidRequestError, "invalid boolean"),
        ("images.compression_algorithm", "rar", InvalidRequestError, "Invalid compression"),
        ("backups.compression_algorithm", "lz4", UnsupportedError, "lz4"),
        ("images.default_architecture", "s390x", InvalidRequestError, "none of x86_64, i686"),
        ("user.list", ["a"], InvalidRequestError, "neither text"),
        ("user.long", "a" * 70_000, InvalidRequestError, "too long"),
        ("core.https_address", ":8443", UnsupportedError, "unix socket only"),
        ("core.trust_password", "secret", UnsupportedError, "unix socket"),
        ("cluster.https_address", ":8443", UnsupportedError, "cluster"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path: Path, key: str, value: object, kind: type[Exception], text: str
) -> None:
    async def scenario(place: Place) -> None:
        await place.set(user__who="me")
        with pytest.raises(kind, match=text) as caught:
            await place.config.update(lambda current: {"user.who": "you", key: value})
        assert "secret" not in str(caught.value)
        assert place.config.values == {"user.who": "me"}

    play(tmp_path, scenario)


def test_listeners_hear_of_changes(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        heard: list[str] = []
        place.config.on_change(lambda: heard.append(place.config.values["user.who"]))
        await place.set(user__who="me")
        assert heard == ["me"]

    play(tmp_path, scenario)
