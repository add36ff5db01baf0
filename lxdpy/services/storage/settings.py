"""Which names and configuration keys pools and volumes may have, and which values.

source             of a pool: a directory of the administrator's
security.shifted   of a volume: true or false; volumes are shown through id maps, so that many containers share one
security.unmapped  of a volume: true shows the ids that are on disk as they are
snapshots.expiry   of a volume: how long its snapshots are kept (services/expiry.py)
snapshots.pattern  what those are called that are given no name
user.*             free text
"""

import os
from collections.abc import Mapping

from lxdpy.errors import InvalidRequestError, UnsupportedError
from lxdpy.services import expiry
from lxdpy.services.booleans import parse_bool

_MAX_NAME_BYTES = 150


def check_name(kind: str, name: str) -> None:
    """Refuse what can't be the name of a directory. `kind` begins the text of the InvalidRequestError."""
    if not name:
        raise InvalidRequestError(f"{kind} name must not be empty")
    if "/" in name:
        raise InvalidRequestError(f"{kind} names may not contain slashes")
    if name.startswith(".") or not name.isprintable() or len(os.fsencode(name)) > _MAX_NAME_BYTES:
        raise InvalidRequestError(
            f"Invalid {kind.lower()} name {name!r:.200}: at most {_MAX_NAME_BYTES} bytes of printable characters, "
            'the first of which is no "."'
        )


def check_pool_config(config: Mapping[str, str]) -> None:
    """Raises InvalidRequestError for a key that no pool has, UnsupportedError for one that is not offered."""
    for key, value in config.items():
        _check_text(key, value)
        if key.startswith("volume."):
            raise UnsupportedError(f'Invalid option "{key:.200}": defaults for new volumes are not supported')
        if key.startswith("rsync."):
            raise UnsupportedError(f'Invalid option "{key:.200}": nothing is transferred by rsync')
        if key != "source" and not key.startswith("user."):
            raise InvalidRequestError(f'Invalid option "{key:.200}"')


def check_volume_config(name: str, config: Mapping[str, str]) -> None:
    """As `check_pool_config`, for the custom volume `name`."""
    for key, value in config.items():
        _check_text(key, value)
        if key.startswith("user."):
            continue
        if key in ("security.shifted", "security.unmapped"):
            parse_bool(value)
        elif key == "size":
            raise UnsupportedError(f'Cannot limit the size of volume "{name}": the pool has no quotas')
        elif key == "snapshots.expiry":
            expiry.check_expression(value)
        elif key == "snapshots.pattern":
            expiry.check_pattern(value)
        elif key.startswith("snapshots."):
            raise UnsupportedError(f'Invalid option "{key:.200}" of volume "{name}": snapshots are taken on request')
        else:
            raise InvalidRequestError(f'Invalid option for volume "{name}" option "{key:.200}"')
    if parse_bool(config.get("security.shifted", "")) and parse_bool(config.get("security.unmapped", "")):
        raise InvalidRequestError("security.shifted and security.unmapped are mutually exclusive")


def _check_text(key: str, value: str) -> None:
    if "\0" in key or "\0" in value or "\n" in key:
        raise InvalidRequestError(f"Invalid config: NUL or line break in key or value of {key!r:.100}")
