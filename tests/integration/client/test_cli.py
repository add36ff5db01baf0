"""The `lxdpy` command as a process of its own, against a server that speaks LXD's protocol."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from importlib.metadata import version

import pytest

from tests.fakes.lxd_server import FINGERPRINT, FakeLxd

LXDPY = (sys.executable, "-W", "error", "-c", "from lxdpy.cli import main; main()")
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(socket: str) -> dict[str, str]:
    return {**os.environ, "LXDPY_SOCKET": socket, "TERM": "xterm"}


@pytest.fixture
def lxdpy(server: FakeLxd, socket: str) -> Run:
    def run(*args: str, stdin: str | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            (*LXDPY, *args),
            env=environment(socket),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return done

    return run


def test_launch_list_info_delete(lxdpy: Run, server: FakeLxd) -> None:
    done = lxdpy(
        "launch", "alpine:3.20", "web", "-c", "limits.memory=64MiB", "-e", "A=b=c", "--", "echo", "--rm", "a b"
    )
    assert done.stdout == "web\n"
    assert f"{'a' * 12}: downloading (3.0 kB)\n" in done.stderr
    config = server.instances["web"]["config"]
    assert config == {"limits.memory": "64MiB", "environment.A": "b=c", "oci.cmd": "echo --rm 'a b'"}
    table = lxdpy("list").stdout.splitlines()
    assert table[0].split() == ["NAME", "STATUS", "ADDRESS", "IMAGE", "CREATED"]
    assert table[1].split()[:3] == ["web", "Running", "10.1.2.3"]
    assert json.loads(lxdpy("list", "--format", "json").stdout)[0]["name"] == "web"
    assert "limits.memory: 64MiB" in lxdpy("info", "web").stdout
    assert "is running\nStop it first, or delete it with --force.\n" in lxdpy("delete", "web", code=1).stderr
    lxdpy("delete", "--force", "web")
    assert server.instances == {}


def test_create_without_a_name_then_start(lxdpy: Run, server: FakeLxd) -> None:
    assert lxdpy("create", "alpine").stdout == "picked-name\n"
    lxdpy("start", "picked-name")
    assert lxdpy("start", "picked-name", code=1).stderr == "Error: The instance is already running\n"
    done = lxdpy("stop", "picked-name", "other", code=1)
    assert done.stderr == "Error: other: Instance not found\n"
    assert server.instances["picked-name"]["status"] == "Stopped"


def test_launch_attached_exits_as_the_instance(lxdpy: Run, server: FakeLxd) -> None:
    done = lxdpy("launch", "alpine", "--attach", "--rm", "--", "exit", "7", code=7)
    assert done.stdout == "hello\nbye\n"
    assert server.instances == {}


def test_interrupting_an_attached_launch(lxdpy: Run, socket: str, server: FakeLxd) -> None:
    for options, said, left in (
        (("--rm",), b"", []),
        ((), b"The instance goes on: lxdpy stop web\n", ["web"]),
    ):
        with subprocess.Popen(
            (*LXDPY, "launch", "-a", *options, "alpine", "web"),
            env=environment(socket),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"hello\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr.read().endswith(b"done (500 B)\n" + said)
            assert list(server.instances) == left


def test_launch_of_what_does_not_start(lxdpy: Run, server: FakeLxd) -> None:
    said = 'Error: Cannot start instance "web": "missing" not found\n'
    for options in ((), ("--attach",)):
        done = lxdpy("launch", "alpine", "web", *options, "--", "missing", code=1)
        assert done.stderr.endswith(f"{said}The instance stays, stopped: lxdpy delete web\n")
        lxdpy("delete", "web")
        done = lxdpy("launch", "alpine", "web", "--rm", *options, "--", "missing", code=1)
        assert done.stderr.endswith(said)
        assert server.instances == {}


def test_wait_prints_the_exit_code(lxdpy: Run) -> None:
    lxdpy("launch", "alpine", "web", "--", "exit", "7")
    assert lxdpy("wait", "web").stdout == "7\n"
    assert lxdpy("list").stdout.split()[6:8] == ["Stopped", "(7)"]
    assert "bye" in lxdpy("logs", "--tail", "1", "web").stdout


def test_exec_passes_streams_and_code(lxdpy: Run) -> None:
    lxdpy("launch", "alpine", "web")
    script = "cat; echo err >&2; exit 3"
    done = lxdpy("exec", "web", "--", "sh", "-c", script, stdin="input", code=3)
    assert (done.stdout, done.stderr) == ("input", "err\n")
    assert lxdpy("exec", "web", "hostname").stdout
    lxdpy("exec", "web", "--", "no-such-command-here", code=127)
    assert lxdpy("exec", "web", "--env", "KEY=value", "--", "sh", "-c", "echo $KEY").stdout == "value\n"
    assert "missing" in lxdpy("exec", "web", code=2).stderr
    assert "missing" in lxdpy("exec", "web", "--", code=2).stderr
    assert lxdpy("exec", "gone", "true", code=1).stderr == "Error: Instance not found\n"


@pytest.mark.parametrize(
    "words",
    [
        ("web", "-e", "A=1", "--", "sh", "-c", "echo $A $0 $1", "--", "-e"),
        ("web", "-e", "A=1", "sh", "-c", "echo $A $0 $1", "--", "-e"),
        ("-eA=1", "web", "sh", "-c", "echo $A $0 $1", "--", "-e"),
        ("-Te", "A=1", "web", "-T", "sh", "-c", "echo $A $0 $1", "--", "-e"),
        ("--env", "A=1", "--env=B=web", "web", "sh", "-c", "echo $A $0 $1", "--", "-e"),
    ],
)
def test_exec_leaves_the_commands_options_alone(lxdpy: Run, words: tuple[str, ...]) -> None:
    lxdpy("launch", "alpine", "web")
    assert lxdpy("exec", *words).stdout == "1 -- -e\n"


@pytest.mark.parametrize(
    ("line", "code", "stdout", "stderr"),
    [
        ("exec web -- cat <&-", 0, "", ""),
        ("exec web -- echo out >&-", 0, "", ""),
        ("exec web -- sh -c 'echo err >&2; exit 3' 2>&-", 3, "", ""),
        ("list >&-", 0, "", ""),
        ("list >/dev/full", 1, "", "Error: Cannot write the output: No space left on device\n"),
    ],
)
def test_streams_that_are_closed_or_full(
    lxdpy: Run, socket: str, line: str, code: int, stdout: str, stderr: str
) -> None:
    lxdpy("launch", "alpine", "web")
    done = subprocess.run(
        ("sh", "-c", f'"$@" {line}', "sh", *LXDPY),
        env=environment(socket),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize("given", ["a line\n", "no line", ""])
def test_a_pipe_ends_on_a_terminal_too(lxdpy: Run, given: str) -> None:
    lxdpy("launch", "alpine", "web")
    done = lxdpy("exec", "-t", "web", "--", "sh", "-c", "stty -echo; echo :; cat; echo end", stdin=given)
    assert done.stdout.endswith("end\n")


def test_exec_forwards_signals(lxdpy: Run, socket: str) -> None:
    lxdpy("launch", "alpine", "web")
    script = "trap 'exit 42' INT; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        (*LXDPY, "exec", "web", "--", "sh", "-c", script), env=environment(socket), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 42


def test_exec_on_a_terminal(lxdpy: Run, socket: str) -> None:
    lxdpy("launch", "alpine", "web")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (20, 90))
    os.write(master, b"typed ahead\n")
    script = 'read early; echo "got $early"; stty size; echo ready; '
    script += 'while [ "$(stty size)" = "20 90" ]; do sleep 0.05; done; stty size; exit 9'
    with subprocess.Popen(
        (*LXDPY, "exec", "web", "--", "sh", "-c", script),
        env=environment(socket),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        text = read_until(master, b"ready")
        assert b"got typed ahead" in text
        assert b"20 90" in text
        assert not termios.tcgetattr(slave)[3] & termios.ICANON
        termios.tcsetwinsize(slave, (33, 99))
        process.send_signal(signal.SIGWINCH)
        assert b"33 99" in read_until(master, b"33 99")
        assert process.wait(30) == 9
    assert termios.tcgetattr(slave)[3] & termios.ICANON
    os.close(slave)
    os.close(master)


def read_until(fd: int, wanted: bytes) -> bytes:
    text = b""
    while wanted not in text:
        text += os.read(fd, 4096)
    return text


def test_logs_follow_until_it_stops(lxdpy: Run, socket: str) -> None:
    lxdpy("launch", "alpine", "web")
    with subprocess.Popen((*LXDPY, "logs", "-f", "web"), env=environment(socket), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hello\n"
        lxdpy("stop", "--force", "web")
        assert process.wait(30) == 0


def test_images(lxdpy: Run) -> None:
    assert lxdpy("image", "pull", "alpine:3.20").stdout == FINGERPRINT + "\n"
    assert lxdpy("image", "list").stdout.splitlines()[1].split()[:3] == [FINGERPRINT[:12], "alpine:3.20", "x86_64"]
    assert json.loads(lxdpy("image", "list", "-f", "json").stdout)[0]["fingerprint"] == FINGERPRINT
    assert "not found" in lxdpy("image", "pull", "missing", code=1).stderr
    assert "promised digest" in lxdpy("image", "pull", "broken", code=1).stderr
    lxdpy("image", "delete", "alpine:3.20")
    assert "Image not found" in lxdpy("image", "info", "alpine:3.20", code=1).stderr


def test_text_from_images_can_not_drive_the_terminal(lxdpy: Run) -> None:
    lxdpy("image", "pull", "alpine")
    for command in ("info", "ancestry"):
        shown = lxdpy("image", command, "alpine").stdout
        assert "evil\\x1b" in shown
        assert "\x1b" not in shown


def test_interrupting_a_pull_cancels_it(lxdpy: Run, server: FakeLxd, socket: str) -> None:
    with subprocess.Popen(
        (*LXDPY, "image", "pull", "slow"), env=environment(socket), stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    (operation,) = server.operations.values()
    deadline = time.monotonic() + 10
    while operation.raw["status"] != "Cancelled":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_progress_bars_on_a_terminal(lxdpy: Run, socket: str) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 160))
    done = subprocess.Popen(
        (*LXDPY, "image", "pull", "alpine"), env=environment(socket), stdout=subprocess.DEVNULL, stderr=slave
    )
    text = read_until(master, b"done")
    assert done.wait(30) == 0
    assert "a" * 12 in text.decode()
    os.close(slave)
    os.close(master)


def test_operations_and_version(lxdpy: Run) -> None:
    lxdpy("image", "pull", "alpine")
    assert "Success" in lxdpy("operation", "list").stdout
    assert "Server: lxd 5.0.2" in lxdpy("version").stdout
    assert lxdpy("--version").stdout == f"lxdpy {version('lxdpy')}\n"


def test_usage_errors(lxdpy: Run) -> None:
    lxdpy("launch", code=2)
    assert "KEY=VALUE" in lxdpy("launch", "alpine", "-c", "nonsense", code=2).stderr
    lxdpy("nonsense", code=2)


def test_no_daemon(socket: str) -> None:
    done = subprocess.run(
        (*LXDPY, "list"), env=environment(socket), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: Cannot connect to {socket}: No such file or directory\n"
        "Is the daemon running? sudo systemctl start lxdpy, or without systemd: sudo lxdpy daemon\n"
    )


def test_completion_offers_instances(lxdpy: Run, socket: str) -> None:
    lxdpy("create", "alpine", "web")
    done = subprocess.run(
        LXDPY,
        env={
            **environment(socket),
            "_LXDPY_COMPLETE": "complete_bash",
            "COMP_WORDS": "lxdpy start w",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["web"], done


def test_the_daemon_command_loads_no_client() -> None:
    script = (
        "import sys; from lxdpy.cli.app import app; "
        "print([m for m in ('httpx', 'websockets', 'rich', 'lxdpy.client', 'lxdpy.daemon') if m in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
