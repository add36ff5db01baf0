"""Image references: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`, normalised as docker does.

    alpine                  docker.io/library/alpine:latest
    org/app:1               docker.io/org/app:1
    ghcr.io/org/app@DIGEST  ghcr.io/org/app@DIGEST
    localhost:5000/app:1    localhost:5000/app:1

The first component is a host when it has a `.` or `:`, is `localhost`, or has an upper-case letter.
"""

import re
from dataclasses import dataclass

from lxdpy.errors import InvalidRequestError
from lxdpy.oci.digest import Digest

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"

_HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?\Z")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}\Z")
_MAX_NAME = 255
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is: `registry` is normalised (docker.io), `repository` full (library/alpine).

    With a digest the tag is only a label.
    """

    registry: str
    repository: str
    tag: str | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str, default_registry: str = DOCKER_HUB) -> "Reference":
        """Read a reference; names without a host belong to `default_registry`. Raises InvalidRequestError."""
        if len(text) > _MAX_TEXT:
            raise _invalid(text, f"it has more than {_MAX_TEXT} characters")
        if "://" in text:
            raise _invalid(text, "leave the scheme out")
        name, at, pin = text.partition("@")
        digest = Digest.parse(pin) if at else None
        host, slash, rest = name.partition("/")
        if not slash or not _is_host(host):
            host, rest = default_registry, name
        repository, colon, tag = rest.partition(":")
        registry = _registry(host, text)
        if _IMAGE_ID.match(name):
            raise _invalid(text, "64 hexadecimal digits are an image id, not a name")
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if not _REPOSITORY.match(repository):
            raise _invalid(text, _name_fault(name))
        if len(f"{registry}/{repository}") > _MAX_NAME:
            raise _invalid(text, f"the name has more than {_MAX_NAME} characters")
        if colon and not _TAG.match(tag):
            raise _invalid(
                text, "a tag has at most 128 letters, digits, '_', '.', '-', and starts with none of the last two"
            )
        if not colon and digest is None:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag or None, digest)

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, else the tag."""
        return str(self.digest or self.tag or DEFAULT_TAG)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The shortest text that docker reads as this reference: `alpine:3.20`, `ghcr.io/org/app:tag`."""
        full = str(self)
        if self.registry != DOCKER_HUB:
            return full
        short = full.removeprefix(f"{DOCKER_HUB}/")
        official = short.removeprefix("library/")
        if "/" not in official and not _IMAGE_ID.match(official.partition("@")[0]):
            return official
        return full if _is_host(short.partition("/")[0]) else short

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"


def _is_host(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost" or component != component.lower()


def _registry(host: str, text: str) -> str:
    if _is_host(host.lower()):
        host = host.lower()  # An upper-case letter may be all that makes it a host.
    match = _HOST.match(host.lower())
    if match is None or int(match["port"] or 0) > 65535 or len(host) > _MAX_NAME:
        raise _invalid(text, f'"{host:.100}" is no host name')
    return DOCKER_HUB if host in _HUB_ALIASES else host


def _name_fault(name: str) -> str:
    if name != name.lower():
        return "repository names are in lower case"
    return "a repository name is made of lower-case letters and digits, with '.', '_', '-' and '/' between them"


def _invalid(text: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"Invalid image reference {text!r:.300}: {why}")
