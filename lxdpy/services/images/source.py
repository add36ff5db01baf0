"""Which image a client means: LXD's and Incus' `source` objects as one type."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.oci.reference import Reference
from lxdpy.project import DEFAULT

STREAMS = "simplestreams"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A local image by `fingerprint` or `alias`; with `protocol` "oci" (or a `server`) one in a registry; with
    "simplestreams" one of an image server."""

    fingerprint: str = ""
    alias: str = ""
    server: str = ""
    protocol: str = ""
    certificate: str = ""
    """PEM, by which an image server is trusted instead of the system's."""
    project: str = DEFAULT
    """Whose images are meant by an image that is here."""

    @property
    def is_remote(self) -> bool:
        """Whether it names a registry or an image server. Raises UnsupportedError for other protocols."""
        if self.protocol not in ("", "oci", STREAMS):
            raise UnsupportedError(
                f'Cannot fetch images by protocol "{self.protocol:.100}": only "oci" and "{STREAMS}" are supported'
            )
        return bool(self.protocol or self.server)

    @property
    def is_streams(self) -> bool:
        """Whether it names an image server. Raises UnsupportedError as `is_remote`."""
        return self.is_remote and self.protocol == STREAMS

    @property
    def name(self) -> str:
        """What names the image there. Clients put aliases into `fingerprint`, too, and the other way round."""
        return self.alias or self.fingerprint

    def reference(self, default_registry: str) -> Reference:
        """The reference it names in a registry; `server` is the registry of names that bring none.

        Raises InvalidRequestError.
        """
        if not self.alias:
            raise InvalidRequestError('Cannot fetch an image from a registry: "alias" must be an image reference')
        return Reference.parse(self.alias, _host(self.server) if self.server else default_registry)


def _host(server: str) -> str:
    """`https://docker.io` -> `docker.io`; a bare host stays."""
    if "://" not in server:
        server = f"https://{server}"
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise InvalidRequestError(f'Invalid image server "{server}": expected https://HOST[:PORT]')
    if parts.username is not None:
        raise InvalidRequestError("Invalid image server: credentials belong in docker's or containers' auth file")
    return parts.netloc
