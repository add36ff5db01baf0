"""The network helper: does the one thing that it is asked on stdin, then ends.

Started by drivers.network as `python -I -m lxdpy.workers.network`; messages: drivers/network/messages.py.
"""

import sys

from lxdpy.drivers.network.messages import EnsureBridge, Plug, RemoveBridge, Request, decode_request, encode_reply
from lxdpy.errors import LxdpyError
from lxdpy.workers.network import bridge, nic


def main() -> None:
    """Serve the one request on stdin."""
    error: LxdpyError | None = None
    try:
        _serve(decode_request(sys.stdin.buffer.read()))
    except LxdpyError as exc:
        error = exc
    sys.stdout.buffer.write(encode_reply(error))


def _serve(request: Request) -> None:
    if isinstance(request, EnsureBridge):
        bridge.ensure(request.bridge)
    elif isinstance(request, RemoveBridge):
        bridge.remove(request.name)
    elif isinstance(request, Plug):
        nic.plug(request.link, request.netns)
    else:
        nic.unplug(request.link, request.netns)


if __name__ == "__main__":
    main()
