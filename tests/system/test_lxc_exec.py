"""Commands in instances, with LXD's own client, on terminals and without, and pylxd; and what many of them leave."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from example_registry import ExampleRegistry

from lxdpy.linux.cgroup import cgroup_mounts
from tests.system.daemon import Daemon, place
from tests.system.lxc import Lxc, Result
from tests.system.terminal import Terminal

pytestmark = [
    pytest.mark.root,
    pytest.mark.lxc,
    pytest.mark.overlay,
    pytest.mark.network,
    pytest.mark.registry,
    pytest.mark.lxd_client,
]


@pytest.fixture(scope="module")
def daemon(example_registry: ExampleRegistry) -> Iterator[Daemon]:
    with place() as directory, Daemon(directory / "state") as running:
        running.pull("example:1", f"http://{example_registry.host}")
        image = running.get("/1.0/images?recursion=1")[0]
        running.request("POST", "/1.0/images/aliases", {"name": "example", "target": image["fingerprint"]})
        running.create("c1", {"type": "image", "alias": "example"}, config={"oci.entrypoint": "sleep 1000000"})
        yield running


@pytest.fixture(scope="module")
def lxc(daemon: Daemon) -> Lxc:
    return Lxc(daemon.state_dir, daemon.state_dir.parent / "home")


def run(lxc: Lxc, script: str, *options: str, stdin: bytes = b"") -> Result:
    return lxc.run("exec", "c1", *options, "--", "sh", "-c", script, stdin=stdin)


def terminal(lxc: Lxc, *command: str, options: tuple[str, ...] = (), size: tuple[int, int] = (99, 33)) -> Terminal:
    return Terminal("lxc", "exec", "c1", *options, "--", *command, environment=lxc.environment, size=size)


@pytest.mark.parametrize("code", [0, 1, 42, 126, 127, 128, 255])
def test_exit_codes(lxc: Lxc, code: int) -> None:
    assert run(lxc, f"exit {code}").code == code


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_deaths_by_signal(lxc: Lxc, name: str, code: int) -> None:
    assert run(lxc, f"kill -{name} $$").code == code


def test_commands_that_can_not_be(lxc: Lxc) -> None:
    for command, code, complaint, error in (
        (("nope",), 127, 'cannot execute "nope": not found in $PATH', "Command not found"),
        (("/no/such",), 127, 'cannot execute "/no/such": no such file', "Command not found"),
        (("/etc/passwd",), 126, 'cannot execute "/etc/passwd": Permission denied', "Command not executable"),
    ):
        done = lxc.run("exec", "c1", "--", *command)
        assert (done.code, done.stdout) == (code, b"")
        assert f"lxdpy: {complaint}\n" in done.stderr
        assert f"Error: {error}" in done.stderr
    done = lxc.run("exec", "c1", "--cwd", "/no/where", "--", "true")
    assert done.code == 126
    assert "cannot change to directory /no/where" in done.stderr


def test_streams_environment_user_and_directory(lxc: Lxc) -> None:
    done = run(lxc, "cat; echo error >&2", stdin=b"in\n")
    assert (done.stdout, done.stderr) == (b"in\n", "error\n")
    lines = lxc.ok("exec", "c1", "--env", "A=b c", "--env", "TERM=odd", "--", "env").splitlines()
    assert {"A=b c", "TERM=odd", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=c1"} <= set(lines)
    done = run(lxc, 'echo $(id -u) $(id -g) "$HOME" "$PWD"', "--user", "1000", "--group", "1001", "--cwd", "/tmp")
    assert done.stdout == b"1000 1001 / /tmp\n"
    assert run(lxc, "id -u; id -g").stdout == b"0\n0\n"
    done = run(lxc, "id", "--user", "70000")
    assert (done.code, "User 70000 is not mapped" in done.stderr) == (1, True)
    assert run(lxc, "cat", "--disable-stdin", stdin=b"unread").stdout == b""


def test_64_megabytes_come_back_unchanged(lxc: Lxc) -> None:
    content = os.urandom(64 << 20)
    assert lxc.run("exec", "c1", "--", "cat", stdin=content).stdout == content


def test_shell(lxc: Lxc) -> None:
    done = lxc.run("shell", "c1", stdin=b"echo $HOME $USER $PWD; exit 4\n")
    assert (done.code, done.stdout) == (4, b"/root root /root\n")


def test_terminals_are_used_where_there_are_some(lxc: Lxc) -> None:
    script = ("sh", "-c", "test -t 0 && echo y''es; test -t 1 || echo n''o; exit 3")
    assert lxc.run("exec", "c1", "--", *script).stdout == b"no\n"
    # -t without a terminal at this end.
    assert b"yes" in lxc.run("exec", "c1", "-t", "--", *script).stdout
    for options, printed in (
        ((), "yes\r\n"),
        (("--mode", "interactive"), "yes\r\n"),
        (("--mode", "non-interactive"), "no\r\n"),
        (("-T",), "no\r\n"),
    ):
        with terminal(lxc, *script, options=options) as client:
            assert client.end() == (3, printed)
    with open(os.devnull, "rb") as null:
        command = ("lxc", "exec", "c1", "--", *script)
        with Terminal(*command, environment=lxc.environment, stdin=null.fileno()) as client:
            assert client.end() == (3, "no\r\n")


def test_keys_size_and_control_characters(lxc: Lxc) -> None:
    with terminal(lxc, "sh") as client:
        client.expect("# ")
        client.type("stty size; echo $TERM o''ne; tty\r")
        assert f"33 99\r\n{lxc.environment.get('TERM', 'dumb')} one\r\n/dev/pts/" in client.expect("/dev/pts/")
        client.resize(120, 44)
        client.type("until stty size | grep '44 120'; do :; done\r")
        client.expect("\n44 120\r\n")
        client.expect("# ")
        client.type("sleep 1001\r")
        wait_for(lambda: "1001" in commands())
        client.type("\x03")
        client.expect("# ")
        client.type("\x04")
        assert client.end()[0] == 130
    assert "1001" not in commands()


def commands() -> set[str]:
    """The arguments of every sleep on this host."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0] == b"sleep":
            found.update(word.decode() for word in words[1:-1])
    return found


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on(lxc: Lxc, number: int) -> None:
    name = signal.Signals(number).name.removeprefix("SIG")
    script = f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        ("lxc", "exec", "c1", "--", "sh", "-c", script), stdout=subprocess.PIPE, env=lxc.environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=30) == (b"got\n", None)
    assert process.returncode == 9


@pytest.mark.parametrize("options", [("-T",), ("-t",)])
def test_a_killed_client_takes_its_command_along(lxc: Lxc, options: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        ("lxc", "exec", "c1", *options, "--", "sleep", "1234"), stdin=subprocess.DEVNULL, env=lxc.environment
    )
    wait_for(lambda: "1234" in commands())
    process.kill()
    process.wait()
    wait_for(lambda: "1234" not in commands())


def test_refused_when_frozen_or_stopped(daemon: Daemon, lxc: Lxc) -> None:
    lxc.ok("pause", "c1")
    assert lxc.fails("exec", "c1", "--", "true") == "Error: Instance is frozen\n"
    lxc.ok("start", "c1")
    lxc.ok("stop", "-f", "c1")
    assert lxc.fails("exec", "c1", "--", "true") == "Error: Instance is not running\n"
    lxc.ok("start", "c1")
    assert "not found" in lxc.fails("exec", "none", "--", "true")


@contextmanager
def nothing_more(daemon: Daemon) -> Iterator[None]:
    """What daemon, workers and the container hold and run is afterwards no more than before."""
    before = held(daemon)
    yield
    deadline = time.monotonic() + 20
    while more := {what: count for what, count in held(daemon).items() if count > before[what]}:
        assert time.monotonic() < deadline, (before, more)
        time.sleep(0.1)


def held(daemon: Daemon) -> dict[str, int]:
    (zygote,) = (pid for pid in children(daemon.pid) if b"lifecycle" in Path(f"/proc/{pid}/cmdline").read_bytes())
    init = daemon.get("/1.0/instances/c1/state")["pid"]
    return {
        "descriptors of the daemon": len(os.listdir(f"/proc/{daemon.pid}/fd")),
        "descriptors of the worker": len(os.listdir(f"/proc/{zygote}/fd")),
        "children of the worker": len(children(zygote)),
        "processes of the container": processes(init),
        "terminals of the container": len(os.listdir(f"/proc/{init}/root/dev/pts")),
        "operations that run": len(daemon.get("/1.0/operations").get("running", [])),
    }


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def processes(init: int) -> int:
    """How many are in the container's cgroup."""
    for line in Path(f"/proc/{init}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mounts = cgroup_mounts()
        for root in mounts.roots:
            if (found := Path(root + path) / "cgroup.procs").exists():
                return len(found.read_text().split())
        assert controllers is not None
    raise AssertionError("no cgroup")


def test_200_in_a_row_leave_nothing(daemon: Daemon, lxc: Lxc) -> None:
    run(lxc, "true")
    with nothing_more(daemon):
        for number in range(200):
            options = ("-t",) if number % 2 else ("-T",)
            done = run(lxc, f"echo {number}; exit {number % 7}", *options)
            assert (done.code, done.stdout.split()) == (number % 7, [str(number).encode()]), done


def test_50_at_once_leave_nothing(daemon: Daemon, lxc: Lxc) -> None:
    run(lxc, "true")
    with nothing_more(daemon), ThreadPoolExecutor(50) as pool:

        def one(number: int) -> tuple[int, list[bytes]]:
            done = run(lxc, f"cat; echo {number}; exit {number % 5}", "-T", stdin=b"in ")
            return done.code, done.stdout.split()

        results = list(pool.map(one, range(50)))
        assert results == [(number % 5, [b"in", str(number).encode()]) for number in range(50)]


PYLXD = """
import os, sys
import pylxd
instance = pylxd.Client(endpoint=sys.argv[1]).instances.get("c1")
result = instance.execute(["sh", "-c", "cat; echo $A >&2; exit 5"], {"A": "b"}, stdin_payload="in\\n")
assert (result.exit_code, result.stdout, result.stderr) == (5, "in\\n", "b\\n"), result
result = instance.execute(["sh", "-c", "id -u; id -g; pwd"], user=7, group=8, cwd="/tmp")
assert (result.exit_code, result.stdout) == (0, "7\\n8\\n/tmp\\n"), result
payload = os.urandom(3 << 20)
result = instance.execute(["cat"], stdin_payload=payload, decode=False)
assert result.stdout == payload
for _ in range(20):
    assert instance.execute(["echo", "again"]).stdout == "again\\n"
try:
    instance.execute(["nope"])
except pylxd.exceptions.LXDAPIException as exc:
    assert str(exc) == "Command not found", exc
else:
    raise AssertionError("it was found")
"""


def test_pylxd(daemon: Daemon) -> None:
    with nothing_more(daemon):
        # In a process of its own: it warns, and leaves sockets open.
        done = subprocess.run(
            (sys.executable, "-c", PYLXD, str(daemon.socket)), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
