"""JSON objects and file descriptors over SOCK_SEQPACKET sockets.

    packet   "J" JSON                     a message of up to INLINE_BYTES
             "M", first fd is a memfd     a larger one: the memfd holds its JSON

Loaded by the lean lifecycle worker: imports nothing that costs memory. Blocking is the socket's own setting.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence

INLINE_BYTES = 32 * 1024
MAX_FDS = 250
"""The kernel's SCM_MAX_FD is 253."""

_RECEIVE_BYTES = INLINE_BYTES + 1
_ANCILLARY_BYTES = socket.CMSG_SPACE(253 * array.array("i").itemsize)


def send(sock: socket.socket, message: object, fds: Sequence[int] = ()) -> None:
    """Send one message; `fds` stay open here. Raises OSError, also BlockingIOError of a non-blocking socket."""
    if len(fds) > MAX_FDS:
        raise ValueError(f"Cannot send {len(fds)} file descriptors in one packet: the limit is {MAX_FDS}")
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= INLINE_BYTES:
        _sendmsg(sock, b"J" + data, fds)
        return
    memfd = os.memfd_create("lxdpy-packet", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(memfd, view) :]
        _sendmsg(sock, b"M", [memfd, *fds])
    finally:
        os.close(memfd)


def receive(sock: socket.socket) -> tuple[dict[str, object], list[int]] | None:
    """Receive one message and its file descriptors (close-on-exec); None when the peer has closed.

    Raises OSError, also BlockingIOError and TimeoutError as the socket is set, and ValueError for a malformed packet.
    """
    received = receive_undecoded(sock)
    return None if received is None else decode(*received)


def receive_undecoded(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """The first half of `receive`: what `decode` takes, b"" for a packet that did not fit."""
    data, ancillary, flags, _ = sock.recvmsg(_RECEIVE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
            fds.extend(numbers)
    if not data:
        return None
    return (b"" if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) else data), fds


def decode(data: bytes, fds: list[int]) -> tuple[dict[str, object], list[int]]:
    """The message of a packet; takes its memfd out of `fds`. Raises ValueError, and closes `fds`."""
    try:
        if data[:1] == b"M" and fds:
            data = _drain(fds.pop(0))
        elif data[:1] == b"J":
            data = data[1:]
        else:
            raise ValueError("Packet is truncated, or of unknown form")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("Packet is not a JSON object")
    except ValueError:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds


def _sendmsg(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


def _drain(memfd: int) -> bytes:
    """Everything in the memfd, which is closed."""
    with open(memfd, "rb") as file:
        file.seek(0)
        return file.read()
