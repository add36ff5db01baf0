"""pongo2 templates, which LXD's images have, by jinja2: both descend from Django's language and differ in a few words.

    pongo2                          here
    a && b, a || b, !a              a and b, a or b, not a
    x|default:"y"                   x|default("y"), which also replaces what is empty
    {% for key, value in map %}     pairs of the map, sorted by key
    {% for x in y sorted %}         the same, sorted; reversed
    forloop.Counter, .First, .Last  loop.index, loop.first, loop.last
    {% ifequal a b %}               {% if a == b %}
    {% comment %}...                nothing
    {% autoescape off %}            nothing: no template is escaped

A name that is not there is empty text. No template reads a file: {% include %} and the like are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from jinja2 import ChainableUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lxdpy.errors import InvalidRequestError

MAX_BYTES = 4 << 20
"""Of all that one start renders."""

_COMMENT = re.compile(r"\{%-?\s*comment\b.*?%\}.*?\{%-?\s*endcomment\s*-?%\}", re.DOTALL)
_AUTOESCAPE = re.compile(r"\{%-?\s*(?:autoescape\s+\w+|endautoescape)\s*-?%\}")
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_FILTER_ARGUMENT = re.compile(r"\|\s*(\w+)\s*:\s*(\0\d+\0|[\w.]+)")
_NOT = re.compile(r"!(?!=)")
_FOR = re.compile(r"^(\{%-?\s*for\s+\w+(\s*,\s*\w+)?\s+in\s+)(.*?)(\s+sorted)?(\s+reversed)?(\s*-?%\})$", re.DOTALL)
_EQUAL = re.compile(r"^(\{%-?\s*)if(not)?equal\s+(\S+)\s+(\S+)(\s*-?%\})$")
_END_EQUAL = re.compile(r"^(\{%-?\s*)endif(?:not)?equal(\s*-?%\})$")
_FORLOOP = re.compile(r"\bforloop\.(\w+)")
_LOOP = {
    "Counter": "index",
    "Counter0": "index0",
    "Revcounter": "revindex",
    "Revcounter0": "revindex0",
    "First": "first",
    "Last": "last",
}


def render(source: str, context: Mapping[str, Any], max_bytes: int = MAX_BYTES) -> str:
    """The text that a template gives. Raises InvalidRequestError, RecursionError, MemoryError."""
    if "\0" in source:
        raise InvalidRequestError("NUL in it")
    config: Mapping[str, str] = context["config"]

    def config_get(key: object, default: object = "") -> object:
        value = config.get(str(key))
        return default if value is None else value.rstrip("\r\n")

    parts: list[str] = []
    length = 0
    try:
        template = _ENVIRONMENT.from_string(translate(source))
        for part in template.generate({**context, "config_get": config_get}):
            length += len(part)
            if length > max_bytes:
                raise InvalidRequestError(f"its text is longer than {max_bytes} characters")
            parts.append(part)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as exc:
        where = f"line {exc.lineno}: " if isinstance(exc, TemplateSyntaxError) else ""
        raise InvalidRequestError(f"{where}{exc}"[:500]) from exc
    return "".join(parts)


def translate(source: str) -> str:
    """A pongo2 template as jinja2 spells it."""
    # Lines keep their numbers.
    source = _COMMENT.sub(lambda match: "{#" + "\n" * match[0].count("\n") + "#}", source)
    return _TAG.sub(lambda match: _translate_tag(match[0]), _AUTOESCAPE.sub("", source))


def _translate_tag(tag: str) -> str:
    strings: list[str] = []

    def keep(match: re.Match[str]) -> str:
        strings.append(match[0])
        return f"\0{len(strings) - 1}\0"

    tag = _STRING.sub(keep, tag)
    tag = _NOT.sub(" not ", tag.replace("&&", " and ").replace("||", " or "))
    tag = _FILTER_ARGUMENT.sub(r"|\1(\2)", tag)
    tag = _FORLOOP.sub(lambda match: f"loop.{_LOOP.get(match[1], match[1])}", tag)
    tag = _EQUAL.sub(lambda match: f"{match[1]}if {match[3]} {'!=' if match[2] else '=='} {match[4]}{match[5]}", tag)
    tag = _END_EQUAL.sub(r"\1endif\2", tag)
    tag = _FOR.sub(_translate_for, tag)
    return re.sub(r"\0(\d+)\0", lambda match: strings[int(match[1])], tag)


def _translate_for(match: re.Match[str]) -> str:
    head, second, value, is_sorted, is_reversed, tail = match.groups()
    for wanted, name in ((second, "_pairs"), (is_sorted, "sort"), (is_reversed, "reverse")):
        if wanted:
            value = f"({value})|{name}"
    return f"{head}{value}{tail}"


def _slice(value: Any, bounds: str) -> object:
    first, _, last = str(bounds).partition(":")
    return value[int(first) if first else None : int(last) if last else None]


def _yesno(value: object, words: str = "yes,no,maybe") -> str:
    yes, no, *maybe = words.split(",")
    return (maybe[0] if maybe else no) if value is None else yes if value else no


_FILTERS: Mapping[str, Callable[..., object]] = {
    "add": lambda value, other: value + (other if isinstance(value, int | float) else str(other)),
    "capfirst": lambda value: str(value)[:1].upper() + str(value)[1:],
    "cut": lambda value, text: str(value).replace(text, ""),
    "default_if_none": lambda value, default: default if value is None else value,
    "slice": _slice,
    "split": lambda value, separator: str(value).split(separator),
    "yesno": _yesno,
}


def _default(value: object, default: object = "") -> object:
    return value or default


def _pairs(value: object) -> object:
    return sorted(value.items()) if isinstance(value, Mapping) else value


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        autoescape=False, keep_trailing_newline=True, undefined=ChainableUndefined, cache_size=0
    )
    made.globals.clear()
    made.globals.update({"true": True, "false": False})
    made.filters.update({**_FILTERS, "default": _default, "_pairs": _pairs})
    return made


_ENVIRONMENT = _environment()


def load_all() -> None:
    """Import what jinja2 imports only when it needs it, also for what it reports."""
    context: dict[str, Any] = {"config": {}}
    for source in ("{% for a, b in config %}{% endfor %}{{ 'x' ~ 1.5|default(2) }}", "{% if %}", "{{ 1 / 0 }}"):
        with suppress(InvalidRequestError):
            render(source, context)
