"""Start times and parents from /proc."""

import os
import signal
import subprocess
import sys

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


def test_heeded_signals() -> None:
    assert process.heeded_signals(2**22 + 1) == set()
    script = (
        "import signal, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN + 3])\n"
        "signal.signal(signal.SIGUSR1, print)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        heeded = process.heeded_signals(child.pid)
        child.kill()
    assert {signal.SIGRTMIN + 3, signal.SIGUSR1} <= heeded
    assert signal.SIGPWR not in heeded
