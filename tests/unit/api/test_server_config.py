"""`PUT` and `PATCH /1.0`: who read the old configuration does not overwrite a newer one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from lxdpy.db.connection import Database
from lxdpy.services.server_config import ServerConfig
from tests.fakes.api_server import Api, serve


def with_api(directory: Path, test: Callable[[Api], Awaitable[None]]) -> None:
    async def main() -> None:
        database = Database(directory / "lxdpy.db")
        try:
            config = ServerConfig(database, lambda *_: None, ("x86_64",))
            await config.load()
            async with serve(directory, server_config=config) as api:
                await test(api)
        finally:
            database.close()

    asyncio.run(main())


def test_put_replaces_and_patch_merges(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        body = {"config": {"user.a": "1", "images.remote_cache_expiry": "5"}}
        assert (await api.http.put("/1.0", json=body)).status_code == 200
        assert (await api.get("/1.0"))["metadata"]["config"] == body["config"]
        assert (await api.http.patch("/1.0", json={"config": {"user.b": "2", "user.a": ""}})).status_code == 200
        assert (await api.get("/1.0"))["metadata"]["config"] == {"images.remote_cache_expiry": "5", "user.b": "2"}
        assert (await api.http.put("/1.0", json={"config": None})).status_code == 200
        assert (await api.get("/1.0"))["metadata"]["config"] == {}

    with_api(tmp_path, test)


def test_if_match(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        read = (await api.http.get("/1.0")).headers["etag"]
        first = await api.http.put("/1.0", json={"config": {"user.a": "1"}}, headers={"If-Match": read})
        second = await api.http.put("/1.0", json={"config": {"user.a": "2"}}, headers={"If-Match": read})
        assert (first.status_code, second.status_code) == (200, 412)
        now = (await api.http.get("/1.0")).headers["etag"]
        third = await api.http.patch("/1.0", json={"config": {"user.a": "3"}}, headers={"If-Match": now})
        assert third.status_code == 200
        assert (await api.get("/1.0"))["metadata"]["config"] == {"user.a": "3"}

    with_api(tmp_path, test)


def test_refusals(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for key, status in (("nothing", 400), ("core.https_address", 501)):
            response = await api.http.put("/1.0", json={"config": {key: "x"}})
            assert response.status_code == status
            assert key in response.json()["error"]

    with_api(tmp_path, test)
