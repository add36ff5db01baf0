"""Images that clients fetch: one file as the body, or two as the parts of a form, `metadata` and then `rootfs`."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import BinaryIO

from fastapi import Response
from fastapi.responses import StreamingResponse

from lxdpy.services.images import ExportedFile

_PART_BYTES = 1 << 20
_FILE = "application/octet-stream"


def answer(files: list[ExportedFile], *, head: bool = False) -> Response:
    """The answer that sends these files, and closes them; with `head` it only says what it would send."""
    boundary = secrets.token_hex(24)
    if len(files) == 1:
        pieces: list[bytes | BinaryIO] = [files[0].file]
        size = files[0].size
        headers = {"Content-Disposition": f"inline;filename={files[0].name}"}
        media_type = _FILE
    else:
        pieces, size = _form(files, boundary)
        headers = {}
        media_type = f"multipart/form-data; boundary={boundary}"
    headers["Content-Length"] = str(size)
    if head:
        for exported in files:
            exported.file.close()
        return Response(headers=headers, media_type=media_type)
    return StreamingResponse(_stream(pieces), headers=headers, media_type=media_type)


def _form(files: list[ExportedFile], boundary: str) -> tuple[list[bytes | BinaryIO], int]:
    pieces: list[bytes | BinaryIO] = []
    size = 0
    for exported in files:
        header = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="{exported.part}"; filename="{exported.name}"\r\n'
            f"Content-Type: {_FILE}\r\n\r\n"
        ).encode()
        pieces += [header, exported.file, b"\r\n"]
        size += len(header) + exported.size + 2
    end = f"--{boundary}--\r\n".encode()
    return [*pieces, end], size + len(end)


async def _stream(pieces: list[bytes | BinaryIO]) -> AsyncIterator[bytes]:
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            while data := await asyncio.to_thread(piece.read, _PART_BYTES):
                yield data
    finally:
        for piece in pieces:
            if not isinstance(piece, bytes):
                piece.close()
