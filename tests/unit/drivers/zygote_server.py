"""The fork server of test_zygote.py: each job does what its request says."""

import os
import signal
import sys
import time

from lxdpy.errors import ConflictError
from lxdpy.workers import zygote


def run(request: dict[str, object], channel: zygote.Channel, fds: list[int]) -> None:
    """Do `request["do"]`."""
    match request["do"]:
        case "echo":
            channel.send({"echo": request["value"], "fds": len(fds), "open": sorted(os.listdir("/proc/self/fd"))}, fds)
        case "talk":
            while (received := channel.receive()) is not None:
                channel.send(received[0], received[1])
        case "refuse":
            raise ConflictError("Cannot do it: it is done")
        case "fail":
            raise OSError(2, "No such thing", "/nowhere")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(1000)
        case "children":
            pid = os.fork()
            if pid == 0:
                os._exit(7)
            channel.send({"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])})


if __name__ == "__main__":
    sock = zygote.inherited_socket()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - tracebacks of the failures that are wanted
    zygote.serve(sock, run, idle_timeout_s=float(sys.argv[1]) if sys.argv[1:] else None)
