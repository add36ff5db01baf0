"""Messages and descriptors arrive as they were sent, however large."""

import array
import os
import socket
from collections.abc import Iterator

import pytest

from lxdpy.linux import packet

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [0, 1, packet.INLINE_BYTES - 20, packet.INLINE_BYTES + 20, 5_000_000])
def test_message_of_any_size_arrives_whole(pair: Pair, size: int) -> None:
    message = {"text": "ä" * (size // 6), "number": size}
    packet.send(pair[0], message)
    assert packet.receive(pair[1]) == (message, [])


@pytest.mark.parametrize("size", [0, 100_000])
def test_descriptors_arrive_close_on_exec_in_order(pair: Pair, size: int) -> None:
    ends = [os.pipe() for _ in range(3)]
    packet.send(pair[0], {"x": "y" * size}, [write for _, write in ends])
    received = packet.receive(pair[1])
    assert received is not None
    for number, ((read, write), got) in enumerate(zip(ends, received[1], strict=True)):
        assert not os.get_inheritable(got)
        os.write(got, b"%d" % number)
        assert os.read(read, 10) == b"%d" % number
        for fd in (read, write, got):
            os.close(fd)


def test_closed_peer_is_none(pair: Pair) -> None:
    pair[0].close()
    assert packet.receive(pair[1]) is None


@pytest.mark.parametrize("data", [b"J", b"J[]", b"J{", b"M", b"?{}", b"J\xff"])
def test_malformed_packet_is_refused_and_its_descriptors_closed(pair: Pair, data: bytes) -> None:
    before = os.listdir("/proc/self/fd")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))]
    pair[0].sendmsg([data], rights if data != b"M" else [])
    with pytest.raises(ValueError):
        packet.receive(pair[1])
    assert os.listdir("/proc/self/fd") == before


def test_more_descriptors_than_the_kernel_takes_are_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="limit is 250"):
        packet.send(pair[0], {}, [0] * 251)
