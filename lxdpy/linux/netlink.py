"""Netlink messages: framing, attributes, request and reply. What the messages mean: rtnetlink.py and nfnetlink.py.

nlmsghdr: u32 length, u16 type, u16 flags, u32 sequence, u32 port | payload | attributes
nlattr:   u16 length, u16 type | value | padding to 4 bytes
"""

import errno
import os
import socket
import struct
from types import TracebackType

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_MULTI = 0x2
_NLM_F_DUMP_INTR = 0x10
_NLA_TYPE_MASK = 0x3FFF
# The most that the kernel puts in one part of a dump; a malloc'ed buffer, not a mapped one.
_RECEIVE_BYTES = 1 << 15
_DUMP_ATTEMPTS = 5

_header = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")
_error = struct.Struct("=i")


def pack_attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _attribute.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes, offset: int, wanted: frozenset[int]) -> dict[int, bytes]:
    """The wanted attributes among those in `data` from `offset` on: values by type."""
    # A link has some fifty of which few are wanted; this loop is what a dump costs.
    found: dict[int, bytes] = {}
    end = len(data) - 3
    unpack = _attribute.unpack_from
    while offset < end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        if (kind := kind & _NLA_TYPE_MASK) in wanted:
            found[kind] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class NetlinkSocket:
    """A netlink socket; it speaks with the network namespace that its thread was in when it was made."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def request(self, kind: int, payload: bytes, *, flags: int = NLM_F_ACK, subject: str = "") -> list[bytes]:
        """Send one request and return the payloads of its answer: of all messages of a dump, else of one, or of none.

        Raises OSError with the kernel's errno, naming `subject`. A dump that a change interrupted is taken again.
        """
        for _ in range(_DUMP_ATTEMPTS):
            payloads, interrupted = self._exchange(kind, payload, flags, subject)
            if not interrupted:
                return payloads
        raise OSError(errno.EINTR, "netlink dump was interrupted by changes again and again", subject)

    def _exchange(self, kind: int, payload: bytes, flags: int, subject: str) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._socket.send(
            _header.pack(_header.size + len(payload), kind, flags | NLM_F_REQUEST, self._sequence, 0) + payload
        )
        payloads: list[bytes] = []
        interrupted = False
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            offset = 0
            while offset < len(data):
                length, answer, answer_flags, sequence, _ = _header.unpack_from(data, offset)
                body = data[offset + _header.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(answer_flags & _NLM_F_DUMP_INTR)
                if answer in (_NLMSG_ERROR, _NLMSG_DONE):
                    code = -_error.unpack_from(body)[0] if len(body) >= _error.size else 0
                    if code:
                        raise OSError(code, os.strerror(code), subject)
                    return payloads, interrupted
                payloads.append(body)
                if not answer_flags & _NLM_F_MULTI and not flags & NLM_F_ACK:
                    return payloads, interrupted
