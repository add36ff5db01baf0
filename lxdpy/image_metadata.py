"""metadata.yaml: what an LXD image says of itself. Read where it was unpacked, and where an instance is made of it.

    architecture: x86_64
    creation_date: 1458040200          seconds since the epoch
    expiry_date: 0                     optional; 0 is never
    properties: {description: ..., os: ..., release: ...}
    templates:
      /etc/hostname: {when: [create, copy], template: hostname.tpl, create_only: false, properties: {...}}

Scalars are taken as the text they are: a release 20.10 is no number. Whoever made the image wrote it, so every part is
checked here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lxdpy.errors import InvalidRequestError

MAX_BYTES = 256 << 10
FILE = "metadata.yaml"
TEMPLATES = "templates"

# As LXD names them, and the names that some tools use instead.
_ARCHITECTURES = {
    name: canonical
    for canonical, names in {
        "i686": "i386 i586 386 x86 generic_32",
        "x86_64": "amd64 generic_64",
        "armv7l": "armel armhf arm armhfp armv7a_hardfp armv7_vfpv3_hardfp",
        "aarch64": "arm64 arm64_generic",
        "ppc": "powerpc",
        "ppc64": "powerpc64",
        "ppc64le": "ppc64el",
        "s390x": "",
        "mips": "mipsel mips64",
        "riscv32": "",
        "riscv64": "",
    }.items()
    for name in (canonical, *names.split())
}
_MAX_DEPTH = 20
_MAX_TIME = 253_402_300_799
"""The end of the year 9999, which is the last that can be written."""


@dataclass(frozen=True, slots=True)
class Template:
    """A file of the instance that is rendered from one of the image's templates."""

    when: tuple[str, ...]
    """create, copy, start."""
    template: str
    """Name of a file in templates/."""
    create_only: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """metadata.yaml."""

    architecture: str
    creation_date: int
    expiry_date: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)
    """By the path of the file that they make."""


def canonical_architecture(name: str) -> str:
    """An architecture by the name that LXD's clients read."""
    return _ARCHITECTURES.get(name, name)


def parse(data: bytes) -> ImageMetadata:
    """Read metadata.yaml. Raises InvalidRequestError."""
    return from_document(load_document(data, FILE, MAX_BYTES))


def load_document(data: bytes, what: str, max_bytes: int) -> object:
    """YAML of whoever it is, every scalar the text that it is. Raises InvalidRequestError."""
    import yaml  # costs 20 ms, and few jobs need it

    if len(data) > max_bytes:
        raise InvalidRequestError(f"Invalid {what}: it has more than {max_bytes} bytes")
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        _check_depth(yaml.parse(data, Loader=loader))
        return yaml.load(data, Loader=loader)
    except (yaml.YAMLError, ValueError) as exc:
        raise InvalidRequestError(f"Invalid {what}: {exc!s:.300}") from exc


def from_document(document: object) -> ImageMetadata:
    """As `parse`, of what YAML or JSON gave. Raises InvalidRequestError."""
    fields = _mapping(document, "metadata.yaml")
    architecture = _text(fields.get("architecture", ""), "architecture")
    if architecture not in _ARCHITECTURES:
        raise InvalidRequestError(f"Invalid metadata.yaml: unknown architecture {architecture!r:.100}")
    creation_date = _time(fields.get("creation_date"), "creation_date")
    if not creation_date:
        raise InvalidRequestError("Invalid metadata.yaml: it has no creation_date")
    return ImageMetadata(
        architecture=architecture,
        creation_date=creation_date,
        expiry_date=_time(fields.get("expiry_date"), "expiry_date"),
        properties=_texts(fields.get("properties"), "properties"),
        templates={
            _line(path, "a template's path"): _template(path, value)
            for path, value in _mapping(fields.get("templates"), "templates").items()
        },
    )


def to_document(metadata: ImageMetadata) -> dict[str, object]:
    """As JSON and YAML have it."""
    return {
        "architecture": metadata.architecture,
        "creation_date": metadata.creation_date,
        "expiry_date": metadata.expiry_date,
        "properties": dict(metadata.properties),
        "templates": {
            path: {
                "when": list(template.when),
                "create_only": template.create_only,
                "template": template.template,
                "properties": dict(template.properties),
            }
            for path, template in metadata.templates.items()
        },
    }


def dump(metadata: ImageMetadata) -> bytes:
    """The bytes of a metadata.yaml."""
    import yaml

    text: str = yaml.safe_dump(to_document(metadata), sort_keys=False, allow_unicode=True)
    return text.encode()


def _check_depth(events: Iterable[object]) -> None:
    """libyaml makes documents by recursion, and overruns its stack on one of ten thousand brackets."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            depth += 1
            if depth > _MAX_DEPTH:
                raise InvalidRequestError(f"Invalid metadata.yaml: it is nested more than {_MAX_DEPTH} deep")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1


def _template(path: str, value: object) -> Template:
    fields = _mapping(value, f"template {path!r:.100}")
    when = fields.get("when") or []
    if not isinstance(when, list):
        raise InvalidRequestError(f'Invalid metadata.yaml: "when" of template {path!r:.100} is no list')
    name = _line(fields.get("template", ""), f"template of {path!r:.100}")
    if not name or "/" in name or name in (".", ".."):
        raise InvalidRequestError(f"Invalid metadata.yaml: template {name!r:.100} is no name of a file in templates/")
    create_only = fields.get("create_only", False)
    return Template(
        when=tuple(_line(item, f'"when" of template {path!r:.100}') for item in when),
        template=name,
        create_only=create_only is True or str(create_only).lower() in ("true", "yes", "on"),
        properties=_texts(fields.get("properties"), f"properties of template {path!r:.100}"),
    )


def _mapping(value: object, what: str) -> dict[str, object]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"Invalid metadata.yaml: {what} is no mapping")
    return {_line(key, f"a key of {what}"): item for key, item in value.items()}


def _texts(value: object, what: str) -> dict[str, str]:
    return {key: _text(item, f"{what}: {key!r:.100}") for key, item in _mapping(value, what).items()}


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise InvalidRequestError(f"Invalid metadata.yaml: {what} is no text")
    return value


def _line(value: object, what: str) -> str:
    text = _text(value, what)
    if "\n" in text or "\r" in text:
        raise InvalidRequestError(f"Invalid metadata.yaml: {what} has a line break in it")
    return text


def _time(value: object, what: str) -> int:
    if value is None or value == "":
        return 0
    try:
        # What is neither is not shown: a few lines of YAML can stand for more than memory holds.
        seconds = int(value) if isinstance(value, str | int) else -1
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _MAX_TIME:
        raise InvalidRequestError(f"Invalid metadata.yaml: {what} is no time")
    return seconds
