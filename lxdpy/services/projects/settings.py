"""Which configuration keys a project may have, and which values.

features.images           images and their aliases are the project's own, else those of `default` are used
features.profiles         the same for profiles
features.storage.volumes  the same for custom volumes
features.networks         networks are always those of `default`: only false
limits.instances          how many instances may be in the project
limits.containers         the same, as every instance is a container
user.*                    free text
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from lxdpy.errors import InvalidRequestError

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?\Z")
_TRUE = frozenset(("true", "1", "yes", "on"))
_FALSE = frozenset(("false", "0", "no", "off"))


class Feature(StrEnum):
    """What a project may have of its own."""

    IMAGES = "features.images"
    PROFILES = "features.profiles"
    VOLUMES = "features.storage.volumes"
    NETWORKS = "features.networks"


DEFAULTS: Mapping[str, str] = {Feature.IMAGES: "true", Feature.PROFILES: "true", Feature.VOLUMES: "true"}
"""What a new project has unless it is said otherwise."""


def check_name(name: str) -> None:
    """Refuse what can't be part of a file's name, and underscores. Raises InvalidRequestError."""
    if not name:
        raise InvalidRequestError("No name provided")
    if "_" in name:
        raise InvalidRequestError("Project names may not contain underscores")
    if not _NAME.match(name):
        raise InvalidRequestError(
            f"Invalid project name {name!r:.100}: 1 to 63 letters, digits, hyphens and dots, "
            "beginning and ending with a letter or digit"
        )


def is_true(value: str | None) -> bool:
    """Whether a checked value of a feature means yes; absent is no."""
    return (value or "").lower() in _TRUE


def _boolean(value: str) -> None:
    if value.lower() not in _TRUE | _FALSE:
        raise InvalidRequestError(f'Invalid value for a boolean "{value:.100}"')


def _networks(value: str) -> None:
    _boolean(value)
    if is_true(value):
        raise InvalidRequestError("networks of a project's own are not supported")


def _number(value: str) -> None:
    if not (value.isascii() and value.isdigit() and int(value) < 2**32):
        raise InvalidRequestError(f'Invalid value for uint32 "{value:.100}"')


_KEYS: Mapping[str, Callable[[str], None]] = {
    Feature.IMAGES: _boolean,
    Feature.PROFILES: _boolean,
    Feature.VOLUMES: _boolean,
    Feature.NETWORKS: _networks,
    "limits.instances": _number,
    "limits.containers": _number,
}


def check_config(config: Mapping[str, str]) -> None:
    """Raises InvalidRequestError for a key that is unknown or a value that can't be."""
    for key, value in config.items():
        if key.startswith("user.") and "\0" not in key + value and "\n" not in key:
            continue
        check = _KEYS.get(key)
        if check is None:
            raise InvalidRequestError(f'Invalid project configuration key "{key:.200}"')
        if value:
            try:
                check(value)
            except InvalidRequestError as exc:
                raise InvalidRequestError(f'Invalid project configuration key "{key}" value: {exc}') from exc
