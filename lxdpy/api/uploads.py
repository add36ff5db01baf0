"""Images that clients send: one file as the body, or two as the parts of a form, `metadata` and then `rootfs`.

What comes is passed on as it comes: nothing of it is kept in memory.
"""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from lxdpy.drivers.base import ImageFiles, Incoming
from lxdpy.errors import ConflictError, InvalidRequestError, UnsupportedError
from lxdpy.services.images import ImageDetails

_PARTS = ("metadata", "rootfs")


async def body_stream(request: Request) -> tuple[bool, AsyncIterator[bytes]]:
    """Whether the body is JSON, and the body. Clients do not always say what they send, but no file begins as JSON."""
    stream = request.stream()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/json", "multipart/form-data", "application/octet-stream"):
        return kind == "application/json", stream
    async for head in stream:
        if head:
            return head.lstrip()[:1] == b"{", _after(head, stream)
    return True, stream


async def _after(head: bytes, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in stream:
        yield chunk


def details_of(request: Request) -> ImageDetails:
    """What a client says of an image in headers. Raises InvalidRequestError."""
    headers = request.headers
    properties: dict[str, str] = {}
    for text in headers.getlist("x-lxd-properties"):
        properties.update(parse_qsl(text, keep_blank_values=True))
    profiles = [value for _, value in parse_qsl(headers.get("x-lxd-profiles", ""))]
    return ImageDetails(
        fingerprint=headers.get("x-lxd-fingerprint", ""),
        filename=headers.get("x-lxd-filename", "")[:255],
        public=headers.get("x-lxd-public", "").lower() in ("true", "1", "yes", "on"),
        properties=properties,
        profiles=tuple(profiles) or ("default",),
    )


async def receive(request: Request, stream: AsyncIterator[bytes], incoming: Incoming) -> tuple[ImageFiles, str]:
    """The image's files and the name of the last one, if the form says it. Raises InvalidRequestError,
    UnsupportedError, ConflictError when the client has left, NoSpaceError, WorkerError."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    try:
        if kind != b"multipart/form-data":
            async for chunk in stream:
                await incoming.write(chunk)
            return await incoming.finish(), ""
        form = _Form(options.get(b"boundary", b""))
        async for chunk in stream:
            for event in form.feed(chunk):
                if event is None:
                    await incoming.next_file()
                else:
                    await incoming.write(event)
        form.end()
        return await incoming.finish(), form.filename
    except ClientDisconnect as exc:
        raise ConflictError("The client is gone") from exc


class _Form:
    """A multipart body: what of it is a file's content."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise InvalidRequestError("Invalid image: the form has no boundary")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._value,
                "on_header_end": self._header,
                "on_headers_finished": self._headers,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )
        self._events: list[bytes | None] = []
        self._name = self._text = b""
        self._disposition = b""
        self._count = 0
        self._whole = False
        self._error: InvalidRequestError | UnsupportedError | None = None
        self.filename = ""

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """Contents in order; None: another file begins. Raises InvalidRequestError, UnsupportedError."""
        try:
            self._parser.write(chunk)
        except FormParserError as exc:
            raise InvalidRequestError(f"Invalid image: {exc}") from exc
        if self._error is not None:
            raise self._error
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """Raises InvalidRequestError when the form is cut off, or lacks a part."""
        if not self._whole or self._count != len(_PARTS):
            raise InvalidRequestError('Invalid image: the form must have the parts "metadata" and "rootfs", whole')

    def _begin(self) -> None:
        self._disposition = b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._text += data[start:end]

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._text
        self._name = self._text = b""

    def _headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if name == "rootfs.img":
            self._error = UnsupportedError(
                "Cannot import the image of a virtual machine: only containers are supported"
            )
        elif self._count >= len(_PARTS) or name != _PARTS[self._count]:
            self._error = InvalidRequestError(
                f'Invalid image: the form has part "{name:.100}" where "metadata" and then "rootfs" are expected'
            )
        elif self._count:
            self._events.append(None)
            self.filename = options.get(b"filename", b"").decode(errors="replace")[:255]
        self._count += 1

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._error is None:
            self._events.append(data[start:end])

    def _end(self) -> None:
        self._whole = True
