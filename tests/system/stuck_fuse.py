"""A FUSE file system in a container, as its root could have it, whose one file `f` is never read to the end.

Run as a file: `stuck_fuse.py INIT_PID DIRECTORY OVERLAY`, all paths in the container. It is at DIRECTORY, and below an
overlay at OVERLAY. Says `ready` on stdout, and serves until it is killed, which lets every reader go.
"""

import ctypes
import os
import struct
import sys

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
ROOT, FILE = 1, 2
INIT, LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, OPENDIR, BATCH_FORGET = 26, 1, 2, 3, 14, 15, 17, 27, 42
ENOENT, ENOSYS = 2, 38

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Enter, mount, serve."""
    pid, directory, overlay = sys.argv[1:]
    own_fds = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY)
    node = os.open("/dev/fuse", os.O_PATH)
    namespaces = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), name) for name in ("user", "mnt")]
    for fd, name in namespaces:
        _checked(_libc.setns(fd, CLONE_NEWUSER if name == "user" else CLONE_NEWNS))
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # Opened in there: the kernel asks for that.
    fuse = os.open(str(node), os.O_RDWR, dir_fd=own_fds)
    for path in (directory, overlay):
        os.makedirs(path, exist_ok=True)
    _mount("stuck", directory, "fuse", f"fd={fuse},rootmode=40000,user_id=0,group_id=0")
    # Who mounts the overlay asks, too.
    if os.fork() == 0:
        _mount("stuck", overlay, "overlay", f"lowerdir={directory}:/bin")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        os._exit(0)
    while True:
        _answer(fuse, os.read(fuse, 1 << 20))


def _answer(fuse: int, request: bytes) -> None:
    opcode, unique, node = struct.unpack_from("<4xIQQ", request)
    error, body = 0, b""
    if opcode in (FORGET, BATCH_FORGET, READ):
        return
    if opcode == INIT:
        body = struct.pack("<IIIIHHII", 7, 31, 0, 0, 0, 0, 1 << 16, 1).ljust(64, b"\0")
    elif opcode == LOOKUP and request[40:] == b"f\0":
        body = struct.pack("<QQQQII", FILE, 0, 0, 0, 0, 0) + _attributes(FILE)
    elif opcode == LOOKUP:
        error = ENOENT
    elif opcode == GETATTR:
        body = struct.pack("<QII", 0, 0, 0) + _attributes(node)
    elif opcode in (OPEN, OPENDIR):
        body = bytes(16)
    elif opcode == STATFS:
        body = struct.pack("<QQQQQIII", 0, 0, 0, 0, 0, 512, 255, 512).ljust(80, b"\0")
    else:
        error = ENOSYS
    os.write(fuse, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)


def _attributes(node: int) -> bytes:
    mode = 0o40755 if node == ROOT else 0o100644
    return struct.pack("<6Q10I", node, 100, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 512, 0)


def _mount(source: str, target: str, kind: str, options: str) -> None:
    _checked(_libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
