"""Starting containers with the real liblxc: what runs, as whom, where, and what is said when it can't."""

# ruff: noqa: ASYNC240 - each test has an event loop to itself, and may block it

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxdpy.drivers.base import BindFile, ExitStatus, IdMap, LowerMount, StartSpec
from lxdpy.drivers.liblxc import LxcContainers
from lxdpy.errors import BusyError, ConflictError, InvalidRequestError, WorkerError

pytestmark = [pytest.mark.root, pytest.mark.lxc, pytest.mark.overlay]

Spec = Callable[..., StartSpec]
With = Callable[[Callable[[LxcContainers], Any]], None]
EITHER = pytest.mark.parametrize("idmap", [IdMap(1_000_000, 65_536), None], ids=["unprivileged", "privileged"])


def apparmor() -> bool:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.exists() and enabled.read_text().startswith("Y")


def console(spec: StartSpec) -> str:
    return Path(spec.directory, "console.log").read_text().replace("\r\n", "\n")


async def output(containers: LxcContainers, spec: StartSpec) -> str:
    """What the container says until it ends, with success."""
    Path(spec.directory, "console.log").unlink(missing_ok=True)
    container = await containers.start(spec)
    assert await container.released() == ExitStatus(0, None), console(spec)
    return console(spec)


@EITHER
def test_process_is_root_of_its_own_layer(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("sh", "-c", "id -u; id -g; touch /made; stat -c %u:%g /made /bin/busybox", idmap=idmap)
        assert await output(containers, made) == "0\n0\n0:0\n0:0\n"
        # Real ids on disk, whatever the map: the upper directory is a layer.
        found = Path(made.directory, "rw/upper/made").stat()
        assert (found.st_uid, found.st_gid) == (0, 0)

    with_containers(body)


@EITHER
def test_argv_arrives_byte_for_byte(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        words = ["a b", "", '"', "'", "\\", "$HOME", "é", "x=y", "-n", "line\nbreak"]
        script = 'for word in "$@"; do echo "<$word>"; done'
        got = await output(containers, spec("sh", "-c", script, "sh", *words, idmap=idmap))
        assert got == "".join(f"<{word}>\n" for word in words)

    with_containers(body)


@EITHER
@pytest.mark.parametrize(
    ("user", "ids", "home"),
    [
        ("", "0 0", "/root"),
        ("app", "100 101", "/home/app"),
        ("100", "100 101", "/home/app"),
        ("app:wheel", "100 10", "/home/app"),
        ("7:8", "7 8", "/"),
        ("7", "7 0", "/"),
    ],
)
def test_user(with_containers: With, spec: Spec, user: str, ids: str, home: str, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        script = "echo $(id -u) $(id -g) $HOME; echo again >/dev/stdout; echo error >/dev/stderr"
        got = await output(containers, spec("sh", "-c", script, user=user, idmap=idmap))
        assert got == f"{ids} {home}\nagain\nerror\n"

    with_containers(body)


def test_supplementary_groups_of_a_privileged_container(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        got = await output(containers, spec("grep", "Groups", "/proc/self/status", user="app", idmap=None))
        assert got.split() == ["Groups:", "29"]

    with_containers(body)


def test_environment_is_exact_and_line_breaks_pass(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        environment = (("A", "1 2"), ("B", "x\ny"), ("PATH", "/bin"), ("EMPTY", ""), ("HOME", "/elsewhere"))
        got = await output(containers, spec("env", environment=environment))
        assert sorted(got.splitlines()) == sorted(
            ["A=1 2", "B=x", "y", "PATH=/bin", "EMPTY=", "HOME=/elsewhere", "container=lxc"]
        )

    with_containers(body)


def test_working_directory_is_made(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        assert await output(containers, spec("pwd", cwd="/srv/app/deep")) == "/srv/app/deep\n"
        assert await output(containers, spec("stat", "-c", "%u %a", "/srv/app", cwd="/srv/app")) == "0 755\n"

    with_containers(body)


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", ExitStatus(0, None)),
        ("exit 3", ExitStatus(3, None)),
        ("exit 255", ExitStatus(255, None)),
    ],
)
def test_exit_code(with_containers: With, spec: Spec, script: str, status: ExitStatus, init: bool) -> None:
    async def body(containers: LxcContainers) -> None:
        started = spec("sh", "-c", f"echo out; {script}", init=init)
        container = await containers.start(started)
        assert await container.released() == status
        assert await containers.last_exit(started.directory) == status
        assert console(started) == "out\n"

    with_containers(body)


def test_killed_by_a_signal(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        for signo in (signal.SIGKILL, signal.SIGTERM):
            container = await containers.start(spec("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"))
            await asyncio.sleep(0.1)
            container.signal(signo)
            await container.init_ended()
            status = await container.released()
            assert status == (ExitStatus(None, 9) if signo == signal.SIGKILL else ExitStatus(9, None))
            container.signal(signo)

    with_containers(body)


@EITHER
def test_container_that_ends_at_once(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        for number in range(40):
            container = await containers.start(spec("sh", "-c", f"exit {number}", idmap=idmap))
            await container.init_ended()
            assert await container.released() == ExitStatus(number, None)

    with_containers(body)


def test_restart_forgets_the_former_exit(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        await (await containers.start(spec("false"))).released()
        container = await containers.start(spec("sleep", "100"))
        assert await containers.last_exit(spec("x").directory) is None
        with pytest.raises(ConflictError, match="it is running"):
            await containers.start(spec("true"))
        container.signal(9)
        assert await container.released() == ExitStatus(None, 9)

    with_containers(body)


@pytest.mark.parametrize(
    ("argv", "changes", "message"),
    [
        (("nope",), {}, r'Cannot start instance "web": "nope" not found in \$PATH of the image'),
        (("/nope/x",), {}, '"/nope/x" not found in the image'),
        (("/etc/passwd",), {}, '"/etc/passwd" is not executable in the image'),
        (("/etc",), {}, '"/etc" is a directory in the image'),
        (("sh",), {"user": "nobody-here"}, 'User "nobody-here" is not in /etc/passwd of the image'),
        (("sh",), {"user": "app:zz"}, 'Group "zz" is not in /etc/group of the image'),
        (("sh",), {"user": "lost"}, "its id map ends at 65535"),
        (("sh",), {"cwd": "/etc/passwd"}, '"/etc/passwd" is no directory'),
        (("sh",), {"items": (("lxc.nonsense", "1"),)}, 'refuses the configuration item lxc.nonsense = "1"'),
        (("sh",), {"items": (("lxc.uts.name", "a\nlxc.hook.pre-start=/x"),)}, "line break or NUL"),
        (("sh",), {"environment": (("A=B", ""),)}, "invalid environment variable"),
        (("s\0h",), {}, "NUL in"),
        ((), {}, "it has no command"),
    ],
)
def test_start_that_can_not_be(
    with_containers: With, spec: Spec, argv: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    async def body(containers: LxcContainers) -> None:
        with pytest.raises(InvalidRequestError, match=message):
            await containers.start(spec(*argv, **changes))
        # Nothing is in the way of the next.
        assert await output(containers, spec("echo", "fine")) == "fine\n"

    with_containers(body)


def test_failure_of_liblxc_tells_its_cause(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        items = (("lxc.net.0.type", "veth"), ("lxc.net.0.link", "lxdpy-nobridge"))
        with pytest.raises(WorkerError, match='bridge "lxdpy-nobridge", bridge interface doesn\'t exist'):
            await containers.start(spec("true", items=items))
        assert await containers.last_exit(spec("x").directory) is None

    with_containers(body)


def test_interpreter_that_is_missing(with_containers: With, spec: Spec, place: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("/script")
        script = Path(made.directory, "rw/upper/script")
        script.write_text("#!/no/interpreter\n")
        script.chmod(0o755)
        with pytest.raises(WorkerError, match='No such file or directory - Failed to exec "/script"'):
            await containers.start(made)

    with_containers(body)


def test_links_of_the_image_lead_nowhere_outside(with_containers: With, spec: Spec, place: Path) -> None:
    async def body(containers: LxcContainers) -> None:
        made = spec("/evil", cwd="/work", files=(BindFile(str(place / "resolv"), "/etc/resolv.conf"),))
        upper = Path(made.directory, "rw/upper")
        (place / "resolv").write_text("nameserver 1.2.3.4\n")
        (upper / "etc").mkdir()
        (upper / "etc/resolv.conf").symlink_to(f"../../../../../..{place}/outside")
        (upper / "evil").symlink_to("/../../../../bin/sh")
        (upper / "work").symlink_to("/real/work")
        with pytest.raises(InvalidRequestError, match="/work"):
            await containers.start(made)
        (upper / "work").unlink()
        container = await containers.start(made)
        container.signal(9)
        await container.released()
        assert not (place / "outside").exists()
        assert Path(f"{upper}{place}/outside").exists()

    with_containers(body)


@EITHER
def test_files_are_shown_and_belong_to_root(
    with_containers: With, spec: Spec, place: Path, idmap: IdMap | None
) -> None:
    async def body(containers: LxcContainers) -> None:
        (place / "hosts").write_text("127.0.0.1 localhost\n")
        (place / "hosts").chmod(0o600)
        files = (BindFile(str(place / "hosts"), "/etc/hosts"), BindFile(str(place / "hosts"), "/new/dir/hosts"))
        script = "cat /etc/hosts /new/dir/hosts; stat -c %u /etc/hosts; echo changed >/etc/hosts"
        got = await output(containers, spec("sh", "-c", script, files=files, idmap=idmap))
        assert got == "127.0.0.1 localhost\n" * 2 + "0\n"
        assert (place / "hosts").read_text() == "changed\n"

    with_containers(body)


@EITHER
def test_devices_and_mounts(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        script = """
            echo x >/dev/null; stat -c %a /dev/shm; touch /dev/shm/x; test -d /dev/mqueue && echo mqueue
            test -t 0 && test -t 1 && test -t 2 && echo terminal
            test -d /proc/self && test -d /sys/class && echo proc and sys
            echo 1 2>/dev/null >/proc/sys/kernel/hostname || echo read-only
            cat /proc/timer_list
        """
        got = await output(containers, spec("sh", "-c", script, idmap=idmap))
        assert got.splitlines() == ["1777", "mqueue", "terminal", "proc and sys", "read-only"]

    with_containers(body)


@pytest.mark.parametrize("layers", [0, 1, 2, 300])
@EITHER
def test_stack_of_layers(
    with_containers: With, spec: Spec, place: Path, busybox_layer: Path, layers: int, idmap: IdMap | None
) -> None:
    async def body(containers: LxcContainers) -> None:
        stack = [busybox_layer] if layers else []
        for number in range(1, layers):
            layer = place / f"layer{number:060}"
            layer.mkdir()
            (layer / "top").write_text(f"{number}\n")
            stack.insert(0, layer)
        lowers = tuple(LowerMount("dir", str(layer)) for layer in stack)
        if not layers:
            made = spec("/busybox", "echo", "alone", lowers=(), idmap=idmap)
            busybox = Path(made.directory, "rw/upper/busybox")
            busybox.write_bytes((busybox_layer / "bin/busybox").read_bytes())
            busybox.chmod(0o755)
            for name in ("proc", "sys", "dev"):
                Path(made.directory, "rw/upper", name).mkdir()
            assert await output(containers, made) == "alone\n"
            return
        got = await output(containers, spec("sh", "-c", "cat /top || true", lowers=lowers, idmap=idmap))
        assert got.startswith(f"{layers - 1}\n" if layers > 1 else "cat: can't open")

    with_containers(body)


def test_two_containers_of_other_id_maps_share_a_layer(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        maps = [IdMap(1_000_000, 65_536), IdMap(2_000_000, 65_536), None]
        running = [
            await containers.start(spec("sleep", "100", name=f"c{number}", idmap=idmap))
            for number, idmap in enumerate(maps)
        ]
        uids = [os.stat(f"/proc/{container.init_pid}").st_uid for container in running]
        assert uids == [1_000_000, 2_000_000, 0]
        for container in running:
            container.signal(9)
            await container.released()

    with_containers(body)


def test_parallel_starts(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(containers.start(spec("sleep", "100", name=f"c{number}"))) for number in range(20)
            ]
        running = [task.result() for task in tasks]
        assert len({container.init_pid for container in running}) == 20
        for container in running:
            container.signal(9)
        for container in running:
            assert await container.released() == ExitStatus(None, 9)

    with_containers(body)


def test_freeze_and_kill_frozen(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        container = await containers.start(spec("sleep", "100"))
        assert not await container.is_frozen()
        await container.freeze()
        assert await container.is_frozen()
        await container.unfreeze()
        assert not await container.is_frozen()
        await container.freeze()
        container.signal(9)
        async with asyncio.timeout(5):
            assert await container.released() == ExitStatus(None, 9)
        with pytest.raises(ConflictError, match="not running"):
            await container.freeze()

    with_containers(body)


def test_console_is_interactive_and_has_one_holder(with_containers: With, spec: Spec) -> None:
    async def body(containers: LxcContainers) -> None:
        started = spec("sh", "-c", "read line; echo got $line; sleep 100")
        container = await containers.start(started)
        terminal = await container.console()
        os.write(terminal.fd, b"hello\n")
        deadline = time.monotonic() + 5
        while "got hello" not in console(started):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        with pytest.raises(BusyError, match="in use"):
            await container.console()
        terminal.close()
        (await container.console()).close()
        container.signal(9)
        await container.released()

    with_containers(body)


def test_version(with_containers: With) -> None:
    async def body(containers: LxcContainers) -> None:
        assert (await containers.version())[0].isdigit()

    with_containers(body)


def test_environment_of_liblxc_is_not_the_containers(with_containers: With, spec: Spec, place: Path) -> None:
    """liblxc runs apparmor_parser by its PATH."""

    async def body(containers: LxcContainers) -> None:
        hook, seen = place / "hook", place / "seen"
        hook.write_text(f'#!/bin/sh\necho "$PATH" >{seen}\n')
        hook.chmod(0o755)
        made = spec(
            "sh", "-c", "echo $PATH", environment=(("PATH", "/bin"),), items=(("lxc.hook.pre-start", str(hook)),)
        )
        assert await output(containers, made) == "/bin\n"
        assert seen.read_text() == "/usr/sbin:/sbin\n"

    with_containers(body)


@EITHER
def test_apparmor_confines_where_the_kernel_has_it(with_containers: With, spec: Spec, idmap: IdMap | None) -> None:
    async def body(containers: LxcContainers) -> None:
        container = await containers.start(spec("sleep", "100", idmap=idmap))
        try:
            label = Path(f"/proc/{container.init_pid}/attr/current").read_text()
        except OSError:
            # No security module that labels processes.
            label = ""
        assert (label.startswith("lxc-") and label.endswith("(enforce)\n")) == apparmor(), label
        container.signal(9)
        await container.released()

    with_containers(body)
