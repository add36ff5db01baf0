"""Run a command in a running container.

The attached process sets up its own terminal, ids and directory and then executes the command, so that nothing of it
depends on what liblxc's attach can express; the worker waits for it as its parent and sees its true wait status.

Until then it is a process of the host in the container's sight: root of the host by its uid, without the container's
seccomp filter, with the worker's descriptors and memory. It is sealed before it gets there, or the container's root
would trace it. A privileged container's root still can: it is the host's.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import sys
import termios
import warnings
from collections.abc import Sequence

import _lxc

from lxdpy.errors import InvalidRequestError, WorkerError
from lxdpy.linux import dumpable
from lxdpy.linux.idmap import host_id
from lxdpy.project import plain_name
from lxdpy.workers.lifecycle import accounts
from lxdpy.workers.lifecycle.rootfs import Rootfs
from lxdpy.workers.lifecycle.start import DEFAULT_PATH
from lxdpy.workers.zygote import Channel

NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Command:
    """What the attached process does; made before attaching, all in memory."""

    def __init__(self, argv: list[str], environment: dict[str, str], account: accounts.Account, cwd: str) -> None:
        self.argv = argv
        self.environment = environment
        self.account = account
        self.cwd = cwd
        self.terminal = False


def execute(request: dict[str, object], channel: Channel, fds: list[int]) -> None:
    """Do an exec job: `request` is an ExecSpec and where to run it; fds are stdin, stdout and stderr.

    Sends {"pid"} with a pidfd, then {"status": WAIT_STATUS}. Raises InvalidRequestError and WorkerError.
    """
    init_pid = int(str(request["init_pid"]))
    command = _command(request, init_pid)
    _give(fds, init_pid, command.account)
    container = _lxc.Container(str(request["name"]), str(request["lxc_path"]))
    # Behind attach() the container's files are ours: nothing may be imported there. The binding itself would import
    # `warnings`, for a deprecated call of its own; it is loaded by now, and silent.
    warnings.simplefilter("ignore")
    sys.meta_path.clear()
    dumpable.seal()
    pid: int = container.attach(
        _run, command, env_policy=_lxc.LXC_ATTACH_CLEAR_ENV, stdin=fds[0], stdout=fds[1], stderr=fds[2]
    )
    if pid <= 0:
        raise WorkerError(f'Cannot enter instance "{plain_name(str(request["name"]))}": is it running?')
    pidfd = os.pidfd_open(pid)
    channel.send({"pid": pid}, (pidfd,))
    # Whoever reads the other ends shall see their end when the command ends.
    for fd in (pidfd, *fds):
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    channel.send({"status": status})


def _command(request: dict[str, object], init_pid: int) -> Command:
    """Look the user up in the container's root."""
    root_fd = os.open(f"/proc/{init_pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        read = Rootfs(root_fd, None).read_text
        match request["uid"], request["gid"]:
            case int(uid), int(gid):
                account = accounts.Account(uid, gid, [], accounts.home_of(uid, read))
            case int(uid), _:
                account = accounts.resolve(str(uid), read)
            case _, int(gid):
                account = accounts.resolve(str(request["user"]).partition(":")[0] + f":{gid}", read)
            case _:
                account = accounts.resolve(str(request["user"]), read)
    finally:
        os.close(root_fd)
    given = request["environment"]
    argv = request["argv"]
    if not isinstance(given, list) or not isinstance(argv, list):
        raise ValueError("Malformed exec request")
    environment = {"PATH": DEFAULT_PATH, "HOME": account.home, **{str(key): str(value) for key, value in given}}
    command = Command([str(word) for word in argv], environment, account, str(request["cwd"]))
    command.terminal = request["terminal"] is True
    return command


def _give(fds: list[int], init_pid: int, account: accounts.Account) -> None:
    """Let the command open /dev/stdout and its like again: pipes and terminals belong to who runs it."""
    uid = host_id(f"/proc/{init_pid}/uid_map", account.uid)
    gid = host_id(f"/proc/{init_pid}/gid_map", account.gid)
    for number in (account.gid, *account.groups):
        if host_id(f"/proc/{init_pid}/gid_map", number) is None:
            raise InvalidRequestError(f"Group {number} is not mapped in the container")
    if uid is None or gid is None:
        raise InvalidRequestError(f"User {account.uid} is not mapped in the container")
    _own(fds, uid, gid)


def _own(fds: Sequence[int], uid: int, gid: int) -> None:
    for fd in fds:
        if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
            os.fchown(fd, uid, gid)


def _run(command: Command) -> None:
    """In the container, as its root: become what was asked for."""
    code = NOT_EXECUTABLE
    try:
        # liblxc has done both already where stdin is a terminal.
        if os.getsid(0) != os.getpid():
            os.setsid()
        if command.terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        account = command.account
        # liblxc has given them to the container's root meanwhile.
        _own((0, 1, 2), account.uid, account.gid)
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        if _enter_directory(command):
            code = _execute(command)
    except BaseException as exc:  # noqa: BLE001 - this process has nobody else to tell
        _complain(str(exc))
    finally:
        os._exit(code)


def _enter_directory(command: Command) -> bool:
    """Change to the directory asked for, or home, or / when that is none."""
    try:
        os.chdir(command.cwd or command.account.home)
    except OSError as exc:
        if command.cwd:
            _complain(f"cannot change to directory {command.cwd}: {exc.strerror}")
            return False
        os.chdir("/")
    return True


def _execute(command: Command) -> int:
    """Execute it; what a shell would answer when that fails."""
    program = command.argv[0]
    try:
        os.execvpe(program, command.argv, command.environment)
    except (FileNotFoundError, NotADirectoryError):
        where = "no such file" if "/" in program else "not found in $PATH"
        _complain(f'cannot execute "{program}": {where}')
        return NOT_FOUND
    except OSError as exc:
        _complain(f'cannot execute "{program}": {exc.strerror}')
        return NOT_EXECUTABLE


def _complain(text: str) -> None:
    os.write(2, f"lxdpy: {text}\n".encode("utf-8", "surrogateescape"))
