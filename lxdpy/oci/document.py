"""JSON documents of images: read once, checked, tolerant where Go's decoder is (null counts as absent).

Strings keep every character that JSON may hold, line breaks and NULs too; only lone surrogates, which no UTF-8 text can
carry, become U+FFFD as they do in Go.
"""

import json
import re
from collections.abc import Mapping

from lxdpy.errors import RegistryError

MAX_DOCUMENT_BYTES = 4 << 20

_SURROGATE = re.compile("[\ud800-\udfff]")


class Fields:
    """One JSON object of the document `what`; each getter raises RegistryError for a value of another type."""

    __slots__ = ("_values", "what")

    def __init__(self, values: Mapping[str, object], what: str) -> None:
        self._values = values
        self.what = what

    @classmethod
    def parse(cls, data: bytes, what: str) -> "Fields":
        """Read an object. Raises RegistryError for what is none, or is larger than MAX_DOCUMENT_BYTES."""
        if len(data) > MAX_DOCUMENT_BYTES:
            raise RegistryError(f"Cannot read {what}: {len(data)} bytes are more than {MAX_DOCUMENT_BYTES}")
        try:
            value = json.loads(data.decode("utf-8", "replace"))
        except ValueError as exc:
            raise RegistryError(f"Cannot read {what}: it is no JSON document: {exc}") from exc
        except RecursionError as exc:
            raise RegistryError(f"Cannot read {what}: it is nested too deeply") from exc
        if not isinstance(value, dict):
            raise RegistryError(f"Cannot read {what}: it is no JSON object")
        return cls(value, what)

    def has(self, name: str) -> bool:
        """Whether there is something at `name`."""
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        """A string; empty when absent."""
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._invalid(name, "a string")
        return clean(value)

    def flag(self, name: str) -> bool:
        """A boolean; false when absent."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._invalid(name, "a boolean")
        return bool(value)

    def size(self, name: str) -> int:
        """A number of bytes, which must be there."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise self._invalid(name, "a number of bytes")
        return value

    def texts(self, name: str, *, single: bool = False) -> tuple[str, ...]:
        """A list of strings, or (`single`) one string instead of a list of one."""
        value = self._values.get(name)
        if value is None:
            return ()
        if single and isinstance(value, str):
            return (clean(value),)
        if not isinstance(value, list) or not all(item is None or isinstance(item, str) for item in value):
            raise self._invalid(name, "a list of strings")
        return tuple(clean(item or "") for item in value)

    def keys(self, name: str) -> tuple[str, ...]:
        """The keys of an object, in order of the alphabet: Go's way to write a set of strings."""
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise self._invalid(name, "an object")
        return tuple(sorted(clean(key) for key in value))

    def names(self) -> tuple[str, ...]:
        """All keys of this object."""
        return tuple(self._values)

    def mapping(self, name: str) -> dict[str, str]:
        """An object whose values are strings."""
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(item is None or isinstance(item, str) for item in value.values()):
            raise self._invalid(name, "an object of strings")
        return {clean(key): clean(item or "") for key, item in value.items()}

    def object(self, name: str) -> "Fields":
        """An object; an empty one when absent."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._invalid(name, "an object")
        return Fields(value or {}, f"{name} of {self.what}")

    def objects(self, name: str) -> tuple["Fields", ...]:
        """A list of objects; null among them is an empty one."""
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(item is None or isinstance(item, dict) for item in value):
            raise self._invalid(name, "a list of objects")
        return tuple(Fields(item or {}, f"{name}[{i}] of {self.what}") for i, item in enumerate(value))

    def _invalid(self, name: str, expected: str) -> RegistryError:
        return RegistryError(f"Invalid {self.what}: {name} must be {expected}")


def clean(text: str) -> str:
    """`text` as UTF-8 can carry it."""
    return _SURROGATE.sub("�", text)
