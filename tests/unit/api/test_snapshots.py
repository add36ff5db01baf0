"""Routes of snapshots, copies and renames over a real socket, on real services."""

from collections.abc import Callable

from tests.fakes.api_server import Api
from tests.unit.api.conftest import Scenario
from tests.unit.api.test_instances import make, send
from tests.unit.services.conftest import Host

Play = Callable[[Scenario], None]
WEB = "/1.0/instances/web"
ZERO = "0001-01-01T00:00:00Z"


def test_take_list_read_delete(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api, config={"user.a": "1"})
        assert (await api.get(f"{WEB}/snapshots"))["metadata"] == []
        assert (await api.get(f"{WEB}?recursion=1"))["metadata"]["snapshots"] is None
        assert await send(api, "POST", f"{WEB}/snapshots", {"name": "", "stateful": False, "expires_at": None}) == (
            200,
            "",
        )
        assert await send(api, "POST", f"{WEB}/snapshots", {"name": "a%2fb"}) == (200, "")
        assert (await api.get(f"{WEB}/snapshots"))["metadata"] == [f"{WEB}/snapshots/snap0", f"{WEB}/snapshots/a%252fb"]
        assert (await api.get("/1.0/containers/web/snapshots"))["metadata"][0] == "/1.0/containers/web/snapshots/snap0"
        first, second = (await api.get(f"{WEB}/snapshots?recursion=1"))["metadata"]
        assert (first["name"], second["name"], first["size"], first["stateful"]) == ("snap0", "a%2fb", -1, False)
        assert (first["config"]["user.a"], first["expanded_config"]["environment.FOO"]) == ("1", "image")
        assert (first["expires_at"], first["last_used_at"]) == (ZERO, ZERO)
        assert (await api.get(f"{WEB}/snapshots/snap0"))["metadata"] == first
        full = (await api.get(f"{WEB}?recursion=1"))["metadata"]
        (listed,) = (await api.get("/1.0/instances?recursion=2"))["metadata"]
        assert full["snapshots"] == listed["snapshots"] == [first, second]
        assert {"backups", "snapshots", "state"}.isdisjoint((await api.get(WEB))["metadata"])
        assert await send(api, "DELETE", f"{WEB}/snapshots/snap0") == (200, "")
        assert [entry["name"] for entry in (await api.get(f"{WEB}?recursion=1"))["metadata"]["snapshots"]] == ["a%2fb"]

    play(scenario)


def test_expiry_and_names(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        body = {"name": "one", "expires_at": "2040-01-02T03:04:05.123456789+01:00"}
        assert await send(api, "POST", f"{WEB}/snapshots", body) == (200, "")
        one = f"{WEB}/snapshots/one"
        response = await api.http.get(one)
        assert response.json()["metadata"]["expires_at"] == "2040-01-02T02:04:05.123456Z"
        version = response.headers["etag"]
        status, _ = await send(api, "PUT", one, {"expires_at": ZERO}, **{"if-match": version})
        assert status == 200
        assert (await api.get(one))["metadata"]["expires_at"] == ZERO
        status, _ = await send(api, "PATCH", one, {"expires_at": ZERO}, **{"if-match": version})
        assert status == 412
        assert await send(api, "PATCH", one, {"expires_at": "2041-01-01T00:00:00Z"}) == (200, "")
        assert await send(api, "PUT", one, {}) == (200, "")
        assert (await api.get(one))["metadata"]["expires_at"].startswith("2041")
        assert await send(api, "POST", one, {"name": "two"}) == (200, "")
        assert await send(api, "POST", f"{WEB}/snapshots", {"name": "one"}) == (200, "")
        assert await send(api, "POST", one, {"name": "two"}) == (409, "Name 'web/two' already in use")

    play(scenario)


def test_refusals(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        one = f"{WEB}/snapshots/one"
        assert (await send(api, "POST", f"{WEB}/snapshots", {"name": "one"}))[0] == 200
        for method, path, body, status in (
            ("GET", "/1.0/instances/none/snapshots", None, 404),
            ("POST", "/1.0/instances/none/snapshots", {}, 404),
            ("POST", f"{WEB}/snapshots", {"name": "one"}, 409),
            ("POST", f"{WEB}/snapshots", {"name": "a/b"}, 400),
            ("POST", f"{WEB}/snapshots", {"stateful": True}, 501),
            ("POST", f"{WEB}/snapshots", {"expires_at": "soon"}, 400),
            ("GET", f"{WEB}/snapshots/none", None, 404),
            ("PUT", f"{WEB}/snapshots/none", {}, 404),
            ("DELETE", f"{WEB}/snapshots/none", None, 404),
            ("POST", f"{WEB}/snapshots/none", {"name": "two"}, 404),
            ("POST", one, {}, 400),
            ("POST", one, {"name": "two", "migration": True}, 501),
            ("POST", WEB, {}, 400),
            ("POST", WEB, {"name": "web"}, 409),
            ("POST", WEB, {"name": "a_b"}, 400),
            ("POST", WEB, {"name": "db", "migration": True}, 501),
            ("POST", WEB, {"name": "db", "migration": True, "pool": "other"}, 501),
            ("POST", WEB, {"name": "db", "migration": True, "project": "other"}, 404),
            ("POST", "/1.0/instances/none", {"name": "db"}, 404),
            ("POST", "/1.0/instances", {"name": "db", "source": {"type": "copy"}}, 400),
            ("POST", "/1.0/instances", {"name": "db", "source": {"type": "copy", "source": "none"}}, 404),
            ("POST", "/1.0/instances", {"name": "db", "source": {"type": "copy", "source": "web/none"}}, 404),
            ("POST", "/1.0/instances", {"name": "web", "source": {"type": "copy", "source": "web"}}, 409),
            ("PUT", WEB, {"restore": "none"}, 404),
        ):
            assert (await send(api, method, path, body))[0] == status, (method, path, body)
        # Nothing of it holds a name.
        assert (await send(api, "POST", WEB, {"name": "db"}))[0] == 200

    play(scenario)


def test_restore_copy_and_rename(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api, config={"user.a": "1"}, start=True)
        assert (await send(api, "POST", f"{WEB}/snapshots", {"name": "one"}))[0] == 200
        assert (await send(api, "PATCH", WEB, {"config": {"user.a": "2"}}))[0] == 200
        body = {"restore": "web/one", "config": None, "devices": None, "profiles": None, "description": ""}
        assert (await send(api, "PUT", WEB, body | {"stateful": True}))[0] == 501
        assert (await api.get(WEB))["metadata"]["config"]["user.a"] == "2"
        assert await send(api, "PUT", WEB, body) == (200, "")
        assert (await api.get(WEB))["metadata"]["config"]["user.a"] == "1"
        source = {"type": "copy", "source": "web", "live": True, "base-image": "x"}
        response = await api.http.post("/1.0/instances", json={"name": "twin", "source": source})
        operation = response.json()["metadata"]
        assert operation["resources"]["instances"] == ["/1.0/instances/twin", WEB]
        await api.get(f"/1.0/operations/{operation['id']}/wait?timeout=10")
        twin = (await api.get("/1.0/instances/twin?recursion=1"))["metadata"]
        assert [entry["name"] for entry in twin["snapshots"]] == ["one"]
        assert await send(api, "POST", "/1.0/instances/twin", {"name": "other", "migration": False, "pool": ""}) == (
            200,
            "",
        )
        assert (await api.get("/1.0/instances"))["metadata"] == ["/1.0/instances/other", WEB]
        assert (await send(api, "POST", WEB, {"name": "db"}))[0] == 400

    play(scenario)
