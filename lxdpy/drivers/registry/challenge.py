"""WWW-Authenticate (RFC 9110, 11.6.1): what a registry asks for.

    Bearer realm="https://auth.example/token",service="registry, example",scope="repository:org/app:pull"

One header may hold several challenges, and commas both between them and within quotes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))[ \t]*(?=,|\Z)', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|\Z)")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z)")
_SEPARATOR = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: the scheme and the parameters' names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(values: Sequence[str]) -> tuple[Challenge, ...]:
    """The challenges in these header values; what comes after something unreadable is left out."""
    return tuple(challenge for value in values for challenge in _parse(value))


def _parse(value: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = _skip(value, 0)
    while position < len(value):
        if challenges and (match := _PARAMETER.match(value, position)):
            name, quoted, plain = match.groups()
            parameters.setdefault(name.lower(), plain if quoted is None else _ESCAPED.sub(r"\1", quoted))
        elif match := _SCHEME.match(value, position):
            parameters = {}
            challenges.append(Challenge(match[1].lower(), parameters))
            if not _PARAMETER.match(value, match.end()) and (token := _TOKEN68.match(value, match.end())):
                match = token
        else:
            break
        position = _skip(value, match.end())
    return challenges


def _skip(value: str, position: int) -> int:
    match = _SEPARATOR.match(value, position)
    return match.end() if match else position
