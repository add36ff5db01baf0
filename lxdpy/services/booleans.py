"""Booleans as LXD spells them in configuration."""

from lxdpy.errors import InvalidRequestError

_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def parse_bool(value: str) -> bool:
    """A boolean as LXD spells it; "" is false. Raises InvalidRequestError."""
    if not value:
        return False
    try:
        return _WORDS[value.lower()]
    except KeyError:
        raise InvalidRequestError(f"Invalid boolean {value!r:.100}: expected true or false") from None
