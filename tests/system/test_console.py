"""The console of an instance, with LXD's own client on a terminal, and its log."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from tests.system.daemon import Daemon, Failed, place
from tests.system.lxc import Lxc
from tests.system.terminal import Terminal

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
]

SHELL = {"oci.entrypoint": "/bin/sh"}


@contextmanager
def with_image(registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        yield running


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with with_image(example_registry) as running:
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


@pytest.fixture
def shell(daemon: Daemon) -> Iterator[Daemon]:
    daemon.create("sh", {"type": "image", "alias": "example"}, config=SHELL)
    yield daemon
    if daemon.get("/1.0/instances/sh")["status"] != "Stopped":
        daemon.act("sh", "stop", force=True)
    daemon.delete("sh")


def console(lxc: Lxc) -> Terminal:
    terminal = Terminal("lxc", "console", "sh", environment=lxc.environment, size=(99, 33))
    terminal.expect("To detach from the console, press: <ctrl>+a q")
    return terminal


def detach(terminal: Terminal) -> None:
    """The client reads one key at a time."""
    terminal.type("\x01")
    time.sleep(0.2)
    terminal.type("q")
    assert terminal.end()[0] == 0


def until_free(daemon: Daemon) -> None:
    deadline = time.monotonic() + 10
    while any(
        operation["description"] == "Showing console" and operation["status"] == "Running"
        for group in daemon.get("/1.0/operations?recursion=1").values()
        for operation in group
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


# First: beside the daemon of the others, this one would share a bridge with it.
def test_a_dead_daemon_lets_go_of_the_console(example_registry: ExampleRegistry) -> None:
    with with_image(example_registry) as own:
        lxc = Lxc(own.state_dir, own.state_dir.parent / "home")
        own.create("sh", {"type": "image", "alias": "example"}, config=SHELL)
        with console(lxc) as terminal:
            terminal.type("echo b''efore\r")
            terminal.expect("\nbefore\r\n")
            own.kill()
            terminal.end()
        own.start()
        with console(lxc) as terminal:
            terminal.type("echo a''fter\r")
            terminal.expect("\nafter\r\n")
            detach(terminal)


def test_attach_type_resize_and_detach(shell: Daemon, lxc: Lxc) -> None:
    with console(lxc) as terminal:
        terminal.type("echo o''ne; stty size; tty\r")
        printed = terminal.expect("/dev/pts/")
        assert "\none\r\n33 99\r\n" in printed
        assert "\r\r" not in printed
        terminal.resize(120, 44)
        terminal.expect("# ")
        # The size comes by another connection than the keys.
        terminal.type("until stty size | grep '44 120'; do :; done\r")
        terminal.expect("\n44 120\r\n")
        detach(terminal)
    assert "\none\n33 99\n" in lxc.ok("console", "sh", "--show-log")
    # Once more: it was let go of.
    with console(lxc) as terminal:
        terminal.type("echo a''gain\r")
        terminal.expect("\nagain\r\n")
        detach(terminal)
    assert shell.get("/1.0/instances/sh")["status"] == "Running"


def test_the_end_of_the_instance_ends_the_console(shell: Daemon, lxc: Lxc) -> None:
    with console(lxc) as terminal:
        terminal.type("echo l''ast words; exit 3\r")
        code, printed = terminal.end()
        assert code == 0
        assert "\nlast words\r\n" in printed
    assert shell.exit_of("sh")["exit_code"] == 3


def test_one_client_at_a_time_unless_by_force(shell: Daemon, lxc: Lxc) -> None:
    with console(lxc) as terminal:
        with Terminal("lxc", "console", "sh", environment=lxc.environment) as second:
            code, printed = second.end()
            assert code == 1
            assert 'Cannot attach to the console of instance "sh"' in printed
        shell.request("POST", "/1.0/instances/sh/console", {"type": "console", "force": True})
        assert terminal.end()[0] == 0
    # The third never connected its websockets.
    until_free(shell)
    with console(lxc) as terminal:
        # Without saying goodbye.
        terminal.process.kill()
        terminal.end()
    until_free(shell)
    with console(lxc) as terminal:
        detach(terminal)


def test_refusals(shell: Daemon) -> None:
    path = "/1.0/instances/sh/console"
    for body, message in (({"type": "vga"}, "VGA console is only supported"), ({"type": "x"}, "Unknown console type")):
        with pytest.raises(Failed, match=f"400: {message}"):
            shell.request("POST", path, body)
    shell.act("sh", "freeze")
    with pytest.raises(Failed, match="400: Instance is frozen"):
        shell.request("POST", path, {})
    shell.act("sh", "stop", force=True)
    with pytest.raises(Failed, match="400: Instance is not running"):
        shell.request("POST", path, {})


def test_logs_that_were_not_begun_are_empty(daemon: Daemon, lxc: Lxc) -> None:
    daemon.create("new", {"type": "image", "alias": "example"}, start=False)
    assert lxc.ok("console", "new", "--show-log") == "\nConsole log:\n\n\n"
    assert lxc.ok("info", "new", "--show-log").endswith("\nLog:\n\n\n")
    with pytest.raises(Failed, match="404"):
        daemon.request("GET", "/1.0/instances/new/logs/other.log")
    daemon.request("DELETE", "/1.0/instances/new/console")
    daemon.delete("new")


def until_logged(shell: Daemon, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in shell.console("sh"):
        assert time.monotonic() < deadline, shell.console("sh")
        time.sleep(0.02)


def test_clearing_the_log(shell: Daemon, lxc: Lxc) -> None:
    with console(lxc) as terminal:
        terminal.type("echo b''efore\r")
        terminal.expect("\nbefore\r\n")
        # The terminal may show it before the monitor has written it.
        until_logged(shell, "\nbefore\n")
        Path(shell.state_dir, "instances/sh/console.log.1").write_text("older\n")
        shell.request("DELETE", "/1.0/instances/sh/console")
        assert shell.console("sh") == ""
        assert not Path(shell.state_dir, "instances/sh/console.log.1").exists()
        terminal.type("echo a''fter\r")
        terminal.expect("\nafter\r\n")
        until_logged(shell, "\nafter\n")
        detach(terminal)
    assert "before" not in shell.console("sh")


def test_nothing_is_left_of_many_attachments(shell: Daemon, lxc: Lxc) -> None:
    with console(lxc) as terminal:
        detach(terminal)
    until_free(shell)
    before = len(os.listdir(f"/proc/{shell.pid}/fd"))
    for _ in range(5):
        with console(lxc) as terminal:
            terminal.process.send_signal(signal.SIGKILL)
            terminal.end()
        until_free(shell)
    deadline = time.monotonic() + 10
    while len(os.listdir(f"/proc/{shell.pid}/fd")) > before:
        assert time.monotonic() < deadline, os.listdir(f"/proc/{shell.pid}/fd")
        time.sleep(0.05)
