"""The helper that reads an image server's documents (drivers/simplestreams): one question, one answer, and it ends.

It has no capability and can't write a file: what it reads may come from anybody.
"""

import json
import resource
import sys
import time
from dataclasses import dataclass

import httpx

import lxdpy
from lxdpy.drivers.base import RemoteImage
from lxdpy.drivers.registry.transport import (
    CONNECT_TIMEOUT_S,
    REDIRECT_STATUSES,
    RETRY_STATUSES,
    next_location,
    redact,
    ssl_context,
)
from lxdpy.drivers.simplestreams.catalogue import Offer, choose, offers, product_files
from lxdpy.drivers.simplestreams.messages import Find, encode_error, encode_image
from lxdpy.errors import LxdpyError, NotFoundError, RegistryError
from lxdpy.linux import capabilities
from lxdpy.oci.document import Fields

_INDEX = "streams/v1/index.json"
_MAX_INDEX_BYTES = 8 << 20
_MAX_PRODUCTS_BYTES = 64 << 20
_MAX_FILES = 32
_MEMORY_BYTES = 4 << 30
_ATTEMPTS = 3
_RETRY_DELAY_S = 0.5


@dataclass(frozen=True, slots=True)
class _Tls:
    """What the system trusts, or the question's certificate."""

    verify: bool = True
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


def find(request: Find) -> RemoteImage:
    """Answer the question. Raises NotFoundError, RegistryError, InvalidRequestError."""
    server = request.server
    with httpx.Client(
        verify=ssl_context(_Tls(), request.certificate),
        timeout=httpx.Timeout(request.timeout_s, connect=CONNECT_TIMEOUT_S),
        headers={"User-Agent": f"lxdpy/{lxdpy.__version__}"},
        mounts=dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")),
    ) as client:
        _confine()
        index = _document(client, f"{server}/{_INDEX}", _MAX_INDEX_BYTES)
        found: list[Offer] = []
        for path in product_files(index)[:_MAX_FILES]:
            products = _document(client, f"{server}/{path.lstrip('/')}", _MAX_PRODUCTS_BYTES)
            found.extend(offers(products, server))
    return choose(found, request.name, architectures=request.architectures, server=server)


def _document(client: httpx.Client, url: str, limit: int) -> Fields:
    data = _get(client, url, limit)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise RegistryError(f"Cannot read {redact(url)}: it is no JSON document: {exc!s:.200}") from exc
    if not isinstance(value, dict):
        raise RegistryError(f"Cannot read {redact(url)}: it is no JSON object")
    return Fields(value, redact(url))


def _get(client: httpx.Client, url: str, limit: int) -> bytes:
    """A document of at most `limit` bytes; tried again when the connection breaks, or the server has a bad moment."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            status, data = _follow(client, url, limit)
        except httpx.HTTPError as exc:
            reason = str(exc) or type(exc).__name__
            failure = RegistryError(f"Cannot reach image server {redact(url)}: {reason}")
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                failure = RegistryError(f"{failure} (a private CA belongs in the system's, or in $SSL_CERT_FILE)")
                break
        else:
            if status == 200:
                return data
            if status == 404:
                raise NotFoundError(f"{redact(url)} does not exist: is it a simplestreams server?")
            failure = RegistryError(f"Cannot read {redact(url)}: the server answered with status {status}")
            if status not in RETRY_STATUSES:
                break
        if attempt < _ATTEMPTS:
            time.sleep(_RETRY_DELAY_S * attempt)
    raise failure


def _follow(client: httpx.Client, url: str, limit: int) -> tuple[int, bytes]:
    hops = 0
    while True:
        with client.stream("GET", url) as answer:
            if answer.status_code in REDIRECT_STATUSES:
                url = next_location(url, answer.headers.get("location"), hops)
                hops += 1
                continue
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > limit:
                    raise RegistryError(f"Cannot read {redact(url)}: it has more than {limit} bytes")
            return answer.status_code, bytes(data)


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    capabilities.set_no_new_privs()
    capabilities.keep_only(())


def main() -> int:
    """Answer what is on stdin."""
    try:
        answer = encode_image(find(Find.decode(sys.stdin.buffer.read())))
    except LxdpyError as exc:
        answer = encode_error(exc)
    except MemoryError:
        answer = encode_error(RegistryError("Cannot read the image server's documents: they take too much memory"))
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
