"""The process that starts one container in the foreground, and stays as its monitor until it has ended.

    DIRECTORY/exit   {"status": WAIT_STATUS, "time": SECONDS}   written when init has ended, for whoever asks, later

It is forked before anything is prepared, so that it holds no memory but its own, and gets what the start child prepared
by message: configuration, and descriptors of detached mounts. They are attached in a mount namespace of its own:
nothing is ever mounted on the host, and what is mounted goes when this process does.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import time

import _lxc

from lxdpy.linux import mount, packet

_STDIO = (0, 1, 2)


class _LxcContainer(ctypes.Structure):
    """struct lxc_container of lxccontainer.h up to error_num, which the binding does not show."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("configfile", ctypes.c_void_p),
        ("pidfile", ctypes.c_void_p),
        ("slock", ctypes.c_void_p),
        ("privlock", ctypes.c_void_p),
        ("numthreads", ctypes.c_int),
        ("lxc_conf", ctypes.c_void_p),
        ("error_string", ctypes.c_char_p),
        ("error_num", ctypes.c_int),
    )


class _PyContainer(ctypes.Structure):
    """The binding's object: a Python header and the container."""

    _fields_ = (
        ("refcount", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("container", ctypes.POINTER(_LxcContainer)),
    )


def run(sock: socket.socket) -> None:
    """Be the monitor of the container that the message on `sock` describes; returns when it has ended.

    {"error": text} is sent back when it can't be configured; else `sock` is closed just before the start.
    """
    os.setsid()
    received = packet.receive(sock)
    if received is None:
        return
    plan, fds = received
    directory = str(plan["directory"])
    try:
        container = _configure(plan, fds)
        _prepare_process(init=bool(plan["init"]))
    except OSError as exc:
        packet.send(sock, {"error": f"{exc.strerror} {exc.filename or ''}".strip()})
        return
    except ValueError as exc:
        packet.send(sock, {"error": str(exc)})
        return
    argv = tuple(str(word) for word in _list(plan["argv"]))
    sock.close()
    # A tuple: liblxc's binding crashes on a list.
    if container.start(bool(plan["init"]), False, True, argv):
        status = _PyContainer.from_address(id(container)).container.contents.error_num
        _write_exit(directory, status)


def _configure(plan: dict[str, object], fds: list[int]) -> _lxc.Container:
    """Attach the mounts and set every configuration item. Raises OSError, and ValueError for what liblxc refuses."""
    mount.unshare(mount.CLONE_NEWNS)
    # The host's unmounts reach this namespace; nothing of this one reaches the host.
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_SLAVE)
    mount.move_mount(fds[0], f"{plan['directory']}/rootfs")
    for source, target in zip(fds[1::2], fds[2::2], strict=True):
        mount.move_mount(source, target)
    for fd in fds:
        os.close(fd)
    container = _lxc.Container(str(plan["name"]), str(plan["lxc_path"]))
    container.clear_config()
    for key, value in _pairs(plan["items"]):
        if not container.set_config_item(key, value):
            raise ValueError(f'liblxc refuses the configuration item {key} = "{value}"')
    for key, value in _pairs(plan["environment"]):
        # By name alone liblxc takes the value from its own environment: no value passes through its parser.
        os.environ[key] = value
        accepted = container.set_config_item("lxc.environment", key)
        del os.environ[key]
        if not accepted:
            raise ValueError(f"liblxc refuses the environment variable {key}")
    return container


def _prepare_process(*, init: bool) -> None:
    """Keep nothing of the daemon's, and nothing that the container would inherit."""
    # Only where stdio is a terminal does lxc-init get the container's console instead: a pty master counts as one.
    fd = os.open("/dev/ptmx" if init else "/dev/null", os.O_RDWR | os.O_NOCTTY)
    for stdio in _STDIO:
        os.dup2(fd, stdio)
    os.close(fd)
    os.chdir("/")
    # Python ignores these, and a container's init would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _write_exit(directory: str, status: int) -> None:
    """Leave the wait status for the daemon; whole or not at all."""
    temporary = f"{directory}/exit.tmp"
    with open(temporary, "w", encoding="ascii") as file:
        json.dump({"status": status, "time": time.time()}, file)
    os.rename(temporary, f"{directory}/exit")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"Expected a list, got {value!r}")
    return value


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(key), str(item)) for key, item in (tuple(_list(pair)) for pair in _list(value))]
