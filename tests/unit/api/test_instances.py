"""Routes of instances over a real socket, on real services."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.api_server import Api
from tests.unit.api.conftest import Scenario
from tests.unit.services.conftest import Host

Play = Callable[[Scenario], None]
SOURCE = {"type": "image", "protocol": "oci", "alias": "app"}


async def send(api: Api, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status, and metadata or error; of an operation, its end."""
    response = await api.http.request(method, path, content=json.dumps(body).encode(), headers=headers)
    answer = json.loads(response.text)
    if answer["type"] == "async":
        ended = await api.get(f"{answer['operation'].partition('?')[0]}/wait?timeout=10")
        return ended["metadata"]["status_code"], ended["metadata"]["err"]
    return response.status_code, answer["error"] or answer["metadata"]


async def make(api: Api, name: str = "web", **settings: object) -> None:
    assert await send(api, "POST", "/1.0/instances", {"name": name, "source": SOURCE, **settings}) == (200, "")


def test_lists(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        assert (await api.get("/1.0/instances"))["metadata"] == []
        await make(api, "web", start=True)
        await make(api, "db", config={"user.role": "data"})
        assert (await api.get("/1.0/instances"))["metadata"] == ["/1.0/instances/db", "/1.0/instances/web"]
        assert (await api.get("/1.0/containers"))["metadata"] == ["/1.0/containers/db", "/1.0/containers/web"]
        assert (await api.get("/1.0/instances?project=other&recursion=2"))["metadata"] == []
        everywhere = (await api.get("/1.0/instances?all-projects=true"))["metadata"]
        assert len(everywhere) == 2
        await api.get("/1.0/instances?project=other&all-projects=true", 400)
        db, web = (await api.get("/1.0/instances?project=&filter=&recursion=2"))["metadata"]
        assert (db["status"], db["state"]["pid"], db["state"]["network"]) == ("Stopped", 0, None)
        assert (web["status"], web["status_code"], web["state"]["status_code"]) == ("Running", 103, 103)
        (found,) = (await api.get("/1.0/instances?recursion=1&filter=config.user.role eq data"))["metadata"]
        assert found["name"] == "db"
        assert {"backups", "snapshots", "state"}.isdisjoint(found)
        await api.get("/1.0/instances?filter=nonsense", 400)
        assert len((await api.get("/1.0/instances?instance-type=container"))["metadata"]) == 2
        assert (await api.get("/1.0/instances?instance-type=virtual-machine&recursion=2"))["metadata"] == []
        await api.get("/1.0/instances?instance-type=nonsense", 400)
        await api.get("/1.0/instances?recursion=9999999999", 400)

    play(scenario)


def test_what_is_kept_rendered_follows_every_change(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        async def status() -> str:
            before = (await api.get("/1.0/instances/web"))["metadata"]
            (one,) = (await api.get("/1.0/instances?recursion=1"))["metadata"]
            # What follows a container's end may change it meanwhile.
            assert one in (before, (await api.get("/1.0/instances/web"))["metadata"])
            return str(one["status"])

        await make(api)
        assert await status() == "Stopped"
        for action, expected in (
            ("start", "Running"),
            ("freeze", "Frozen"),
            ("unfreeze", "Running"),
            ("restart", "Running"),
            ("stop", "Stopped"),
        ):
            body = {"action": action, "timeout": -1, "force": action != "start"}
            assert await send(api, "PUT", "/1.0/instances/web/state", body) == (200, "")
            if expected == "Stopped":
                # What the daemon notes of the end comes after the stop.
                await api.get("/1.0/instances/web/wait?timeout=10")
            assert await status() == expected
        assert await send(api, "PATCH", "/1.0/instances/web", {"description": "new"}) == (200, {})
        assert (await api.get("/1.0/instances?recursion=1"))["metadata"][0]["description"] == "new"
        assert await send(api, "DELETE", "/1.0/instances/web") == (200, "")
        assert (await api.get("/1.0/instances?recursion=1"))["metadata"] == []
        await api.get("/1.0/instances/web", 404)

    play(scenario)


def test_put_of_what_get_gave_works_while_the_daemon_writes(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        response = await api.http.get("/1.0/instances/web")
        read, version = response.json()["metadata"], response.headers["etag"]
        await host.instances.start("web")
        assert (await api.http.get("/1.0/instances/web")).headers["etag"] == version
        read["config"]["user.mine"] = "1"
        assert await send(api, "PUT", "/1.0/instances/web", read, **{"If-Match": version}) == (200, "")
        config = (await api.get("/1.0/instances/web"))["metadata"]["config"]
        assert config["user.mine"] == "1"
        assert config["volatile.last_state.power"] == "RUNNING"
        assert config["volatile.eth0.host_name"].startswith("veth")
        status, error = await send(api, "PUT", "/1.0/instances/web", read, **{"If-Match": version})
        assert status == 412
        assert error.startswith("ETag doesn't match")
        assert (await send(api, "PATCH", "/1.0/instances/web", {}, **{"If-Match": version}))[0] == 412

    play(scenario)


def test_of_two_puts_of_one_version_one_wins(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        response = await api.http.get("/1.0/instances/web")
        read, version = response.json()["metadata"], response.headers["etag"]
        results = await asyncio.gather(
            *(
                send(api, "PUT", "/1.0/instances/web", {**read, "description": text}, **{"If-Match": version})
                for text in "abcd"
            )
        )
        assert [status for status, _ in results].count(200) == 1
        assert {status for status, _ in results} <= {200, 400, 412}

    play(scenario)


def test_patches_at_the_same_time_all_happen(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        await asyncio.gather(
            *(send(api, "PATCH", "/1.0/instances/web", {"config": {f"user.{n}": "x"}}) for n in range(8))
        )
        config = (await api.get("/1.0/instances/web"))["metadata"]["config"]
        assert {f"user.{n}" for n in range(8)} <= set(config)
        assert await send(api, "PATCH", "/1.0/instances/web", {"config": {"user.1": None, "user.2": ""}}) == (200, {})
        config = (await api.get("/1.0/instances/web"))["metadata"]["config"]
        assert "user.0" in config
        assert {"user.1", "user.2"} & set(config) == set()

    play(scenario)


def test_a_restore_is_no_replacement_by_nothing(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api, description="precious")
        body = {"restore": "snap0", "config": None, "devices": None, "profiles": None, "description": ""}
        status, error = await send(api, "PUT", "/1.0/instances/web", body)
        assert (status, error) == (404, 'Snapshot "web/snap0" not found')
        assert (await api.get("/1.0/instances/web"))["metadata"]["description"] == "precious"

    play(scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "../x"}, 400),
        ({"config": {"volatile.eth0.hwaddr": "x\nlxc.net.0.type = phys"}}, 400),
        ({"config": {"volatile.eth0.host_name": "a b"}}, 400),
        ({"devices": {"eth 0": {"type": "nic", "network": "lxdpybr0"}}}, 400),
        ({"devices": {"eth0": {"type": "nic", "network": "lxdpybr0", "host_name": ".."}}}, 400),
        ({"devices": {"eth0": {"type": "nic", "network": "lxdpybr0", "hwaddr": "00:00"}}}, 400),
        ({"type": "virtual-machine"}, 400),
        ({"source": {"type": "migration"}}, 400),
        ({"source": {**SOURCE, "alias": "nothing"}}, 404),
        ({"profiles": ["nothing"]}, 404),
    ],
)
def test_refused_at_once_and_the_name_stays_free(play: Play, body: dict[str, object], status: int) -> None:
    async def scenario(api: Api, host: Host) -> None:
        found, error = await send(api, "POST", "/1.0/instances", {"name": "web", "source": SOURCE, **body})
        assert found == status, error
        await make(api)

    play(scenario)


def test_nulls_are_nothing(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        nulls = dict.fromkeys(("architecture", "description", "ephemeral", "stateful", "profiles", "type", "start"))
        await make(api, config={"user.a": None}, devices=None, **nulls)
        assert (await api.get("/1.0/instances/web"))["metadata"]["profiles"] == ["default"]
        body = {"config": None, "devices": None, "profiles": ["default"]}
        assert await send(api, "PUT", "/1.0/instances/web", body) == (200, "")
        # As in LXD no profiles are none, and then nothing says where the instance lies.
        status, error = await send(api, "PUT", "/1.0/instances/web", {**body, "profiles": None})
        assert (status, "No root device could be found" in error) == (400, True)

    play(scenario)


def test_stop_in_no_time_is_force(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api, start=True)
        assert await send(api, "PUT", "/1.0/instances/web/state", {"action": "stop", "timeout": 0}) == (200, "")
        assert host.containers.started[-1].signals == [9]
        assert await send(api, "PUT", "/1.0/instances/web/state", {"action": "stop"}) == (
            400,
            "The instance is already stopped",
        )
        assert (await send(api, "PUT", "/1.0/instances/web/state", {"action": "dance"}))[0] == 400

    play(scenario)


def test_logs_and_console(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        path = host.config.state_dir / "instances/web"
        (path / "console.log").write_bytes(b"one\r\ntwo\r\n")
        (path / "logs/exec_1.stdout").write_bytes(b"x" * 3_000_000)
        prefix = "/1.0/containers/web/logs"
        assert (await api.get(prefix))["metadata"] == [f"{prefix}/console.log", f"{prefix}/exec_1.stdout"]
        assert (await api.http.get(f"{prefix}/exec_1.stdout")).content == b"x" * 3_000_000
        for file in ("%00", "..%2Frun.json", "none"):
            await api.get(f"/1.0/instances/web/logs/{file}", 404)
        assert (await send(api, "DELETE", f"{prefix}/exec_1.stdout"))[0] == 200
        assert (await send(api, "DELETE", f"{prefix}/console.log"))[0] == 400
        assert (await api.http.get("/1.0/instances/web/console?tail=1")).content == b"two\n"
        assert (await api.http.get("/1.0/instances/web/console?follow=true")).content == b"one\ntwo\n"
        await api.get("/1.0/instances/none/console", 404)

    play(scenario)


@pytest.mark.parametrize("path", ["/1.0/instances/web/wait", "/1.0/instances/web/console?follow=true"])
def test_a_client_that_leaves_is_waited_for_no_more(play: Play, path: str) -> None:
    async def scenario(api: Api, host: Host) -> None:
        await make(api, start=True)
        before = len(asyncio.all_tasks())
        for _ in range(3):
            _, writer = await asyncio.open_unix_connection(str(api.socket))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await writer.drain()
            while len(asyncio.all_tasks()) <= before:
                await asyncio.sleep(0.001)
            writer.close()
            await writer.wait_closed()
        for _ in range(200):
            if len(asyncio.all_tasks()) <= before:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(asyncio.all_tasks())

    play(scenario)


def test_operations_name_what_they_are_about_by_both_names(play: Play) -> None:
    async def resources(api: Api, method: str, path: str, body: object) -> Any:
        response = await api.http.request(method, path, content=json.dumps(body).encode())
        operation = json.loads(response.text)["operation"]
        return (await api.get(f"{operation}/wait?timeout=10"))["metadata"]["resources"]

    async def scenario(api: Api, host: Host) -> None:
        await make(api)
        both = {"instances": ["/1.0/instances/web"], "containers": ["/1.0/containers/web"]}
        assert await resources(api, "PUT", "/1.0/instances/web", {"profiles": ["default"]}) == both
        assert await resources(api, "POST", "/1.0/instances/web/snapshots", {"name": "s"}) == both
        used = (await api.get("/1.0/storage-pools/default"))["metadata"]["used_by"]
        assert used == ["/1.0/instances/web", "/1.0/instances/web/snapshots/s", "/1.0/profiles/default"]
        copy = {"name": "other", "source": {"type": "copy", "source": "web/s"}}
        assert await resources(api, "POST", "/1.0/instances", copy) == {
            "instances": ["/1.0/instances/other", "/1.0/instances/web/s"],
            "containers": ["/1.0/containers/other", "/1.0/containers/web/s"],
        }

    play(scenario)


def test_lists_of_what_is_not_there_are_errors(play: Play) -> None:
    async def scenario(api: Api, host: Host) -> None:
        assert (await api.get("/1.0/storage-pools/default/volumes/virtual-machine"))["metadata"] == []
        await api.get("/1.0/storage-pools/default/volumes/nonsense", 400)
        await api.get("/1.0/networks?project=nonsense", 404)
        await api.get("/1.0/networks?project=nonsense&recursion=1", 404)

    play(scenario)
