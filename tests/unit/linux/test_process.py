"""Start times and parents from /proc."""

import os

from lxdpy.linux import process


def test_this_process() -> None:
    assert process.parent(os.getpid()) == os.getppid()
    assert process.start_time(os.getpid()) == process.start_time(os.getpid())


def test_dead_and_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert process.start_time(pid) is None
    os.waitpid(pid, 0)
    assert process.parent(pid) is None
