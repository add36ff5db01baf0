"""Regular expressions as values of `filter=`, matched in a time that no pattern can blow up.

LXD takes a value as a regular expression that has to match as a whole, without regard to case. Python's `re` may take
for ever for some patterns; what is here takes steps in proportion to pattern times text. It knows characters, `.`,
`[...]`, `\\d`, `\\w`, `\\s` and escapes, each with `?`, `*` or `+` after it, alternatives between `|`, a pair of
parentheses around them all, and `^` and `$` at the ends.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lxdpy.errors import InvalidRequestError

_ATOM = re.compile(r"(\[\^?\]?[^\]]*\]|\\.|[^\\\[(){}])([?*+]?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Atom:
    """One character's worth of a pattern."""

    fits: Callable[[str], object]
    optional: bool
    repeats: bool


def compile_pattern(text: str) -> Callable[[str], bool]:
    """What tells whether a text matches. Raises InvalidRequestError for what it does not know."""
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    if not set(inner) & set("\\[](){}.*+?|^$"):
        folded = inner.casefold()
        return lambda value: value.casefold() == folded
    alternatives = [_atoms(part, text) for part in inner.split("|")]
    return lambda value: any(_matches(atoms, value) for atoms in alternatives)


def _atoms(part: str, whole: str) -> list[_Atom]:
    part = part.removeprefix("^")
    if part.endswith("$") and not part.endswith("\\$"):
        part = part[:-1]
    atoms: list[_Atom] = []
    position = 0
    while position < len(part):
        match = _ATOM.match(part, position)
        if match is None or match[1] in ("*", "+", "?", "^", "$"):
            raise InvalidRequestError(f'Invalid filter: cannot understand the pattern "{whole:.200}"')
        try:
            fits = re.compile(match[1], re.IGNORECASE | re.DOTALL).fullmatch
        except re.error as exc:
            raise InvalidRequestError(f'Invalid filter: bad pattern "{whole:.200}": {exc}') from exc
        atoms.append(_Atom(fits, match[2] in ("?", "*"), match[2] in ("*", "+")))
        position = match.end()
    return atoms


def _matches(atoms: list[_Atom], text: str) -> bool:
    """Walk through the text with every place in the pattern that may have been reached."""
    places = _reach(atoms, {0})
    for char in text:
        reached = set()
        for place in places:
            if place < len(atoms) and atoms[place].fits(char):
                reached.add(place + 1)
                if atoms[place].repeats:
                    reached.add(place)
        places = _reach(atoms, reached)
        if not places:
            return False
    return len(atoms) in places


def _reach(atoms: list[_Atom], places: set[int]) -> set[int]:
    """Add the places that are reached past what is optional."""
    found = set()
    for place in places:
        found.add(place)
        while place < len(atoms) and atoms[place].optional:
            place += 1
            found.add(place)
    return found
