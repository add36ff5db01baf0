"""What the driver and its helper process say to each other: one JSON object on stdin, one on stdout.

driver                      helper (workers/streams)
Find                ──────>
                    <──────  {"image": {...}}, or {"error": KIND, "message": TEXT}
"""

import json
from dataclasses import asdict, dataclass

from lxdpy import errors
from lxdpy.drivers.base import RemoteFile, RemoteImage
from lxdpy.errors import LxdpyError
from lxdpy.oci.digest import Digest

_KINDS = ("NotFoundError", "InvalidRequestError", "RegistryError", "WorkerError")


@dataclass(frozen=True, slots=True)
class Find:
    """As `ImageServers.find`; `timeout_s`: how long the server may be silent."""

    server: str
    name: str
    architectures: tuple[tuple[str, str], ...]
    certificate: str
    timeout_s: float

    def encode(self) -> bytes:
        """As a message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Find":
        """From a message."""
        document = json.loads(data)
        document["architectures"] = tuple((lxd, theirs) for lxd, theirs in document["architectures"])
        return cls(**document)


def encode_image(image: RemoteImage) -> bytes:
    """An answer."""
    files = [{"path": file.path, "digest": str(file.digest), "size": file.size} for file in image.files]
    document = {
        "server": image.server,
        "fingerprint": image.fingerprint,
        "files": files,
        "created_at": image.created_at,
        "expires_at": image.expires_at,
        "properties": dict(image.properties),
        "filename": image.filename,
    }
    return json.dumps({"image": document}).encode()


def encode_error(error: LxdpyError) -> bytes:
    """A failure."""
    kind = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS), "WorkerError")
    return json.dumps({"error": kind, "message": str(error)}).encode()


def decode_answer(data: bytes) -> RemoteImage:
    """The image, or raise the failure. Raises ValueError, KeyError or TypeError for what is no answer."""
    answer = json.loads(data)
    if "error" in answer:
        if answer["error"] not in _KINDS:
            raise ValueError(f"unknown kind of error {answer['error']!r}")
        raise getattr(errors, answer["error"])(str(answer["message"]))
    document = answer["image"]
    files = [RemoteFile(file["path"], Digest.parse(file["digest"]), file["size"]) for file in document["files"]]
    return RemoteImage(**{**document, "files": tuple(files)})
