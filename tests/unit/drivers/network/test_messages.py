import pytest

from lxdpy.drivers.base import BridgeSpec, LinkSpec
from lxdpy.drivers.network.messages import (
    EnsureBridge,
    Plug,
    RemoveBridge,
    Request,
    Unplug,
    decode_request,
    encode_reply,
    encode_request,
    raise_reply,
)
from lxdpy.errors import BusyError, ConflictError, LxdpyError, WorkerError


@pytest.mark.parametrize(
    "request_", [EnsureBridge(BridgeSpec("lxdpybr0", "10.76.0.1/16", ipv4_nat=False)), RemoveBridge("lxdpybr0")]
)
def test_requests_survive_a_round_trip(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


@pytest.mark.parametrize("data", [b"", b"{", b'{"operation": "dance"}', b"{}"])
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        decode_request(data)


def test_done() -> None:
    raise_reply(encode_reply(None))


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ConflictError("taken"), ConflictError), (BusyError("held"), ConflictError), (WorkerError("broke"), WorkerError)],
)
def test_errors_keep_kind_and_message(error: LxdpyError, kind: type[LxdpyError]) -> None:
    with pytest.raises(kind, match=str(error)):
        raise_reply(encode_reply(error))


@pytest.mark.parametrize("data", [b"", b"Traceback", b'{"error": "fatigue", "message": ""}'])
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        raise_reply(data)


def test_links_survive_a_round_trip() -> None:
    link = LinkSpec("veth", "veth1", "br0", "eth1", "00:16:3e:00:00:01", 0, ("10.0.0.2/24",), ("10.0.0.1",))
    for request in (Plug(link, 7), Unplug(link, 7)):
        assert decode_request(encode_request(request)) == request
