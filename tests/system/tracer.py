"""Run as a script, in a container from the host: `tracer.py INIT_PID` enters its namespaces as its root, and tries to
look into every process that comes, until its stdin ends. Prints `EXE UID` of each that lets it."""

import ctypes
import os
import select
import sys

CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNS = 0x10000000, 0x20000000, 0x00020000
NEAR = 4

libc = ctypes.CDLL(None, use_errno=True)


def enter(init: int) -> None:
    kinds = (("user", CLONE_NEWUSER), ("pid", CLONE_NEWPID), ("mnt", CLONE_NEWNS))
    fds = [(os.open(f"/proc/{init}/ns/{name}", os.O_RDONLY), flag) for name, flag in kinds]
    for fd, flag in fds:
        if libc.setns(fd, flag) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def trace() -> None:
    print("ready", flush=True)
    while not select.select([0], [], [], 0)[0]:
        with open("/proc/loadavg", "rb") as file:
            newest = int(file.read().split()[-1])
        for pid in range(max(newest - NEAR, os.getpid() + 1), newest + NEAR):
            try:
                # The kernel asks for the same right as for ptrace(2), and this stops nobody.
                exe = os.readlink(f"/proc/{pid}/exe")
                with open(f"/proc/{pid}/status", "rb") as file:
                    uid = next(int(line.split()[1]) for line in file if line.startswith(b"Uid:"))
            except OSError:
                continue
            print(exe, uid, flush=True)


if __name__ == "__main__":
    enter(int(sys.argv[1]))
    child = os.fork()
    if child == 0:
        trace()
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
