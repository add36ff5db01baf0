"""Digests (OCI image-spec, descriptor.md#digests): `sha256:HEX` or `sha512:HEX`, lower case."""

import hashlib
import re
from dataclasses import dataclass

from lxdpy.errors import InvalidRequestError

_GRAMMAR = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A validated digest; safe in a URL and in a path."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `algorithm:hex`. Raises InvalidRequestError for anything else."""
        if not isinstance(text, str) or not _GRAMMAR.match(text):
            raise InvalidRequestError(f"Invalid digest {text!r:.200}: expected sha256: or sha512: and lower-case hex")
        algorithm, _, value = text.partition(":")
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        """The sha256 digest of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def matches(self, data: bytes) -> bool:
        """Whether `data` has this digest."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.hex

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
