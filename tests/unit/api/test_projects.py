"""Routes of projects and profiles over a real socket, on real services."""

from collections.abc import Callable

from tests.fakes.api_server import Api
from tests.unit.api.conftest import Scenario
from tests.unit.api.test_instances import SOURCE, make, send
from tests.unit.services.conftest import Host

Play = Callable[[Scenario], None]


def test_projects(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        assert await send(api, "POST", "/1.0/projects", {"name": "p1", "config": {"user.a": "1"}}) == (201, None)
        assert (await send(api, "POST", "/1.0/projects", {"name": "p1"}))[0] == 409
        assert (await api.get("/1.0/projects"))["metadata"] == ["/1.0/projects/default", "/1.0/projects/p1"]
        response = await api.http.get("/1.0/projects/p1")
        version = {"If-Match": response.headers["etag"]}
        patch = {"config": {"user.a": "", "user.b": "2"}, "description": "patched"}
        assert await send(api, "PATCH", "/1.0/projects/p1", patch, **version) == (200, {})
        assert (await send(api, "PUT", "/1.0/projects/p1", {}, **version))[0] == 412
        project = (await api.get("/1.0/projects/p1"))["metadata"]
        assert (project["description"], project["config"]["user.b"]) == ("patched", "2")
        assert "user.a" not in project["config"]
        assert project["config"]["features.images"] == "true"
        assert await send(api, "PUT", "/1.0/projects/p1", {"config": {"limits.instances": "3"}}) == (200, {})
        resources = (await api.get("/1.0/projects/p1/state"))["metadata"]["resources"]
        assert resources == {"instances": {"Limit": 3, "Usage": 0}, "containers": {"Limit": -1, "Usage": 0}}
        assert await send(api, "POST", "/1.0/projects/p1", {"name": "p2"}) == (200, "")
        assert (await send(api, "POST", "/1.0/projects/p2", {"name": "default"}))[0] == 409
        assert (await send(api, "POST", "/1.0/projects/default", {"name": "x"}))[0] == 403
        assert await send(api, "DELETE", "/1.0/projects/p2") == (200, {})
        for method, path in (("GET", ""), ("GET", "/state"), ("DELETE", "")):
            assert (await send(api, method, f"/1.0/projects/p2{path}"))[0] == 404

    play(scenario)


def test_what_is_in_a_project_is_named_with_it(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        config = {"features.images": "false", "features.profiles": "false"}
        await send(api, "POST", "/1.0/projects", {"name": "p1", "config": config})
        await make(api, "web")
        source = {"type": "image", "alias": "app:latest"}
        body = {"name": "web", "source": source, "start": True}
        assert await send(api, "POST", "/1.0/instances?project=p1", body) == (200, "")
        assert (await send(api, "POST", "/1.0/instances?project=p1", body))[0] == 409
        assert (await send(api, "POST", "/1.0/instances?project=nope", body))[0] == 404
        assert (await send(api, "POST", "/1.0/instances", {**body, "name": "p1_web"}))[0] == 400
        assert (await api.get("/1.0/instances?project=p1"))["metadata"] == ["/1.0/instances/web?project=p1"]
        (one,) = (await api.get("/1.0/instances?project=p1&recursion=2"))["metadata"]
        assert (one["name"], one["project"], one["status"]) == ("web", "p1", "Running")
        assert (await api.get("/1.0/instances/web"))["metadata"]["status"] == "Stopped"
        assert one == (await api.get("/1.0/instances/web?project=p1&recursion=1"))["metadata"]
        await api.get("/1.0/instances/p1_web", 404)
        await api.get("/1.0/instances/p1_web/state", 404)
        used = ["/1.0/instances/web", "/1.0/instances/web?project=p1"]
        assert (await api.get("/1.0/profiles/default?project=p1"))["metadata"]["used_by"] == used
        assert (await api.get("/1.0/projects/p1"))["metadata"]["used_by"] == used[1:]
        filtered = "/1.0/instances?all-projects=true&filter=project eq p1"
        assert (await api.get(filtered))["metadata"] == used[1:]

    play(scenario)


def test_profiles(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        body = {"name": "a", "config": {"user.a": "1", "user.none": ""}, "devices": {"x": {"type": "none", "y": ""}}}
        assert await send(api, "POST", "/1.0/profiles", body) == (201, None)
        assert (await send(api, "POST", "/1.0/profiles", body))[0] == 409
        assert (await api.get("/1.0/profiles"))["metadata"] == ["/1.0/profiles/a", "/1.0/profiles/default"]
        response = await api.http.get("/1.0/profiles/a")
        found, version = response.json()["metadata"], {"If-Match": response.headers["etag"]}
        assert (found["config"], found["devices"]) == ({"user.a": "1"}, {"x": {"type": "none"}})
        patch = {"config": {"user.a": "", "user.b": "2"}, "devices": {"x": {}, "z": {"type": "none"}}}
        assert await send(api, "PATCH", "/1.0/profiles/a", patch, **version) == (200, {})
        assert (await send(api, "PATCH", "/1.0/profiles/a", patch, **version))[0] == 412
        assert (await send(api, "PUT", "/1.0/profiles/a", {}, **version))[0] == 412
        found = (await api.get("/1.0/profiles/a"))["metadata"]
        assert (found["config"], found["devices"]) == ({"user.b": "2"}, {"z": {"type": "none"}})
        assert await send(api, "PUT", "/1.0/profiles/a", {"description": "only"}) == (200, {})
        found = (await api.get("/1.0/profiles/a"))["metadata"]
        assert (found["description"], found["config"], found["devices"]) == ("only", {}, {})
        assert await send(api, "POST", "/1.0/profiles/a", {"name": "b"}) == (201, None)
        assert (await send(api, "POST", "/1.0/profiles/b", {"name": "default"}))[0] == 409
        assert (await send(api, "POST", "/1.0/profiles/default", {"name": "c"}))[0] == 403
        assert (await send(api, "DELETE", "/1.0/profiles/default"))[0] == 403
        await make(api, profiles=["default", "b"])
        assert await send(api, "DELETE", "/1.0/profiles/b") == (400, "Profile is currently in use")
        assert await send(api, "PATCH", "/1.0/instances/web", {"profiles": ["default"]}) == (200, {})
        assert await send(api, "DELETE", "/1.0/profiles/b") == (200, {})
        await api.get("/1.0/profiles/b", 404)
        await api.get("/1.0/profiles?project=nope", 404)

    play(scenario)


def test_errors_name_instances_as_clients_do(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await send(api, "POST", "/1.0/projects", {"name": "p1", "config": {"features.profiles": "false"}})
        nic = {"eth0": {"type": "nic", "network": host.config.network.bridge, "hwaddr": "00:16:3e:00:00:01"}}
        for name in ("a", "b"):
            body = {"name": name, "source": SOURCE, "devices": nic}
            assert await send(api, "POST", "/1.0/instances?project=p1", body) == (200, "")
        start = {"action": "start"}
        assert await send(api, "PUT", "/1.0/instances/a/state?project=p1", start) == (200, "")
        refused = await send(api, "PUT", "/1.0/instances/b/state?project=p1", start)
        assert refused == (400, 'Cannot use hwaddr "00:16:3e:00:00:01": it is that of instance "a"')
        stop = {"action": "stop", "timeout": 0}
        refused = await send(api, "PUT", "/1.0/instances/a/state?project=p1", stop)
        assert "p1_" not in refused[1]
        copy = {"name": "a", "source": {"type": "copy", "source": "a", "project": "p1", "refresh": True}}
        refused = await send(api, "POST", "/1.0/instances?project=p1", copy)
        assert "p1_" not in refused[1]

    play(scenario)
