"""The blocking client against a server that speaks LXD's protocol."""

import io
import os
import threading
import time
from collections.abc import Iterator

import pytest

import lxdpy
from lxdpy.client import (
    Client,
    ConnectionFailed,
    LXDError,
    NotFound,
    OperationCancelled,
    OperationFailed,
    OperationRecord,
    WaitTimeout,
)
from tests.fakes.lxd_server import FINGERPRINT, FakeLxd


@pytest.fixture
def client(server: FakeLxd, socket: str) -> Iterator[Client]:
    with Client(socket, timeout=10) as client:
        yield client


@pytest.fixture
def web(client: Client) -> lxdpy.client.Instance:
    instance = client.instances.create("alpine:3.20", "web")
    instance.start()
    return instance


def test_create_sends_the_oci_source_and_keys(client: Client, server: FakeLxd) -> None:
    instance = client.instances.create(
        "ghcr.io/org/app:1",
        "web",
        argv=["echo", "a b"],
        entrypoint=["/bin/sh", "-c"],
        environment={"KEY": "value"},
        privileged=True,
        config={"limits.memory": "64MiB"},
        profiles=[],
    )
    assert (instance.name, instance.status) == ("web", "Stopped")
    body = next(body for method, path, body in server.requests if method == "POST")
    assert body["source"] == {"type": "image", "mode": "pull", "protocol": "oci", "alias": "ghcr.io/org/app:1"}
    assert body["profiles"] == []
    assert body["config"] == {
        "limits.memory": "64MiB",
        "environment.KEY": "value",
        "oci.cmd": "echo 'a b'",
        "oci.entrypoint": "/bin/sh -c",
        "security.privileged": "true",
    }


def test_the_server_picks_a_name(client: Client) -> None:
    assert client.instances.create("alpine").name == "picked-name"


def test_life_of_an_instance(client: Client, web: lxdpy.client.Instance) -> None:
    assert web.refresh().status == "Running"
    assert web.state().addresses == ("10.1.2.3",)
    assert [(i.name, i.status) for i in client.instances.list()] == [("web", "Running")]
    web.freeze()
    assert web.refresh().status == "Frozen"
    web.unfreeze()
    web.shutdown(5)
    assert web.wait().status == "Stopped"
    web.start()
    with pytest.raises(LXDError, match="is running") as caught:
        web.delete()
    assert caught.value.status == 400
    web.delete(force=True)
    with pytest.raises(NotFound, match="Instance not found"):
        web.refresh()


def test_a_failed_operation_has_the_servers_text_and_code(web: lxdpy.client.Instance) -> None:
    with pytest.raises(OperationFailed, match="already running") as caught:
        web.start()
    assert caught.value.error_code == 409


def test_stop_sends_timeout_force_and_signal(web: lxdpy.client.Instance, server: FakeLxd) -> None:
    web.stop(timeout_s=3, signal="SIGINT")
    method, path, body = server.requests[-2] if "wait" in server.requests[-1][1] else server.requests[-1]
    assert (method, path) == ("PUT", "/1.0/instances/web/state")
    assert body == {"action": "stop", "timeout": 3, "force": False, "stateful": False, "signal": "SIGINT"}


def test_pull_reports_each_layers_progress(client: Client) -> None:
    seen: list[OperationRecord] = []
    image = client.images.pull("alpine:3.20", on_progress=seen.append)
    assert image.fingerprint == FINGERPRINT
    states = [record.layers[0].state for record in seen if record.layers]
    assert states[-1] == "done"
    assert "downloading" in states
    assert seen[-1].final


def test_pull_without_a_callback_uses_no_events(client: Client, server: FakeLxd) -> None:
    client.images.pull("alpine:3.20")
    assert any("/wait?timeout=" in path for _, path, _ in server.requests)


def test_unknown_image_fails_at_once(client: Client) -> None:
    with pytest.raises(NotFound, match="missing"):
        client.images.pull("missing:1")


def test_a_pull_that_breaks(client: Client) -> None:
    with pytest.raises(OperationFailed, match="promised digest") as caught:
        client.images.pull("broken:1", on_progress=lambda record: None)
    assert caught.value.error_code == 502


def test_cancel_and_wait_timeout(client: Client) -> None:
    operation = client.images.begin_pull("slow:1")
    with pytest.raises(WaitTimeout):
        operation.wait(0.05)
    assert [o.id for o in client.operations.list()] == [operation.id]
    operation.cancel()
    with pytest.raises(OperationCancelled):
        operation.wait()
    states = [record.status for record in operation.progress()]
    assert states == ["Cancelled"]


def test_images_by_alias_and_prefix(client: Client) -> None:
    client.images.pull("alpine:3.20")
    assert client.images.get("alpine:3.20").fingerprint == FINGERPRINT
    image = client.images.get(FINGERPRINT[:12])
    assert image.ancestry()[0].chain_id == "sha256:c2"
    assert client.instances.create("local:alpine:3.20", "a").name == "a"
    assert client.instances.create(image, "b").name == "b"
    image.delete()
    assert client.images.list() == []


def test_execute_collects_everything(web: lxdpy.client.Instance) -> None:
    result = web.execute(["sh", "-c", 'cat; echo "$KEY" >&2; exit 3'], stdin=b"input", environment={"KEY": "value"})
    assert result == (3, b"input", b"value\n")


def test_execute_megabytes_both_ways(web: lxdpy.client.Instance) -> None:
    data = os.urandom(3_000_000)
    assert web.execute(["cat"], stdin=io.BytesIO(data)).stdout == data


def test_execute_with_an_input_that_nobody_reads(web: lxdpy.client.Instance) -> None:
    reader, writer = os.pipe()
    # An open pipe that never says anything must not hold the end up.
    with open(reader, "rb") as stdin, open(writer, "wb"):
        assert web.execute(["true"], stdin=stdin).exit_code == 0


def test_execute_reads_a_pipe_to_its_end(web: lxdpy.client.Instance) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as stdin:
        os.write(writer, b"through a pipe")
        os.close(writer)
        assert web.execute(["cat"], stdin=stdin).stdout == b"through a pipe"


def test_execute_not_found(web: lxdpy.client.Instance) -> None:
    assert web.execute(["no-such-command-here"]).exit_code == 127


def test_exec_on_a_stopped_instance(client: Client) -> None:
    with pytest.raises(LXDError, match="not running"):
        client.instances.create("alpine", "web").execute(["true"])


def test_exec_streams_and_signals(web: lxdpy.client.Instance) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with web.exec(["sh", "-c", script]) as process:
        output = process.output()
        assert next(output) == ("stdout", b"ready\n")
        process.signal(15)
        assert b"".join(chunk for _, chunk in output) == b"caught\n"
        assert process.wait() == 5


def test_leaving_exec_early_kills_the_command(web: lxdpy.client.Instance) -> None:
    with web.exec(["sh", "-c", "echo $$; exec sleep 60"]) as process:
        pid = int(next(process.output())[1])
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_exec_on_a_terminal(web: lxdpy.client.Instance) -> None:
    script = "stty size; read a; stty size; echo got $a"
    with web.exec(["sh", "-c", script], interactive=True, width=90, height=20) as process:
        output = process.output()
        text = b""
        while b"20 90" not in text:
            text += next(output)[1]
        process.resize(100, 30)
        process.write(b"word\n")
        text += b"".join(chunk for _, chunk in output)
        assert process.wait() == 0
    assert b"got word" in text


def test_logs_and_follow(web: lxdpy.client.Instance) -> None:
    assert web.logs() == b"hello\n"
    assert web.logs(tail=0) == b""
    pieces = web.follow()
    assert next(pieces) == b"hello\n"
    web.stop(force=True)
    assert list(pieces) == []


def test_run_waits_reads_and_deletes(client: Client) -> None:
    result = client.instances.run("alpine", argv=["exit", "7"])
    assert (result.exit.exit_code, result.output) == (7, b"hello\nbye\n")
    assert client.instances.list() == []


def test_run_that_takes_too_long_is_deleted(client: Client) -> None:
    with pytest.raises(WaitTimeout):
        client.instances.run("alpine", timeout_s=0.1)
    assert client.instances.list() == []


def test_delete_of_a_running_ephemeral_instance(client: Client) -> None:
    instance = client.instances.create("alpine", ephemeral=True)
    instance.start()
    instance.delete(force=True)
    assert client.instances.list() == []


def test_events(client: Client, web: lxdpy.client.Instance, server: FakeLxd) -> None:
    events = client.events(["lifecycle"])
    found: list[str] = []

    def listen() -> None:
        for event in events:
            found.append(event.metadata["action"])
            if event.type == "lifecycle":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    deadline = time.monotonic() + 10
    while not server.listeners:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    web.freeze()
    listener.join(10)
    assert found == ["instance-freeze"]
    events.close()  # type: ignore[attr-defined]


def test_raw_requests(client: Client, web: lxdpy.client.Instance) -> None:
    assert client.request("GET", "/1.0/instances/web")["name"] == "web"
    operation = client.submit("PUT", "/1.0/instances/web/state", body={"action": "freeze"})
    assert operation.wait().status == "Success"
    assert client.info()["environment"]["server"] == "lxd"
    with pytest.raises(NotFound):
        client.request("GET", "/1.0/nonsense")


def test_no_daemon(socket: str) -> None:
    with Client(socket) as client, pytest.raises(ConnectionFailed, match="No such file") as caught:
        client.info()
    assert isinstance(caught.value, ConnectionError)


def test_a_callback_may_not_call_the_client(client: Client) -> None:
    with pytest.raises(RuntimeError, match="callback"):
        client.images.pull("alpine", on_progress=lambda record: print(client.info()))


def test_threads_share_a_client(client: Client, web: lxdpy.client.Instance) -> None:
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(web.execute(["echo", str(n)]).stdout)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(b"%d\n" % n for n in range(8))


def test_the_environment_names_the_socket(server: FakeLxd, socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LXDPY_SOCKET", socket)
    with lxdpy.Client.from_env() as client:
        assert client.info()["api_version"] == "1.0"
