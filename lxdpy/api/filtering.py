"""`filter=` of lists: `status eq running and not config.limits.cpu eq 2 or name ne "a b"`.

Evaluated from left to right without precedence, and without regard to case, as LXD does. A field is a path of keys
into the object; a key may itself hold dots, as those of `config` do. A value is a pattern (`api.patterns`) that has to
match as a whole. Fields that an object does not have, or that are maps or lists, equal nothing.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lxdpy.api.patterns import compile_pattern
from lxdpy.errors import InvalidRequestError

Item = TypeVar("Item", bound=Mapping[str, object])


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison, and how it joins what is left of it."""

    field: str
    matching: Callable[[str], bool]
    equal: bool
    negated: bool
    alternative: bool
    """Joined by `or` instead of `and`."""

    def matches(self, item: Mapping[str, object]) -> bool:
        """Whether `item` satisfies this clause alone."""
        found = _lookup(item, self.field)
        same = isinstance(found, str | int | float) and self.matching(_text(found))
        return (same == self.equal) != self.negated


def parse(text: str | None) -> tuple[Clause, ...]:
    """Parse a filter; empty or absent has no clauses. Raises InvalidRequestError."""
    if not text or not text.strip():
        return ()
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
        words = list(lexer)
    except ValueError as exc:
        raise InvalidRequestError(f'Invalid filter "{text}": {exc}') from exc
    clauses = []
    alternative = False
    while words:
        negated = words[0].lower() == "not"
        words = words[1:] if negated else words
        if len(words) < 3 or words[1].lower() not in ("eq", "ne"):
            raise InvalidRequestError(f'Invalid filter "{text}": expected FIELD eq|ne VALUE')
        clauses.append(Clause(words[0], compile_pattern(words[2]), words[1].lower() == "eq", negated, alternative))
        words = words[3:]
        if not words:
            break
        joint = words.pop(0).lower()
        if joint not in ("and", "or") or not words:
            raise InvalidRequestError(f'Invalid filter "{text}": expected "and" or "or" and another clause')
        alternative = joint == "or"
    return tuple(clauses)


def matches(clauses: Iterable[Clause], item: Mapping[str, object]) -> bool:
    """Whether `item` satisfies the filter."""
    result = True
    for clause in clauses:
        result = (result or clause.matches(item)) if clause.alternative else (result and clause.matches(item))
    return result


def select(clauses: tuple[Clause, ...], items: Iterable[Item]) -> list[Item]:
    """The items that satisfy the filter."""
    return [item for item in items if matches(clauses, item)]


def _lookup(value: object, path: str) -> object:
    """The value at `path`, or None. The longest key wins: `config.limits.cpu` is key `limits.cpu` of `config`."""
    if not isinstance(value, Mapping):
        return None
    if path in value:
        return value[path]
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        key = ".".join(parts[:end])
        if key in value:
            return _lookup(value[key], ".".join(parts[end:]))
    return None


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
