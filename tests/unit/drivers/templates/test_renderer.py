"""The driver and its worker, a process that has nothing to lose."""

import asyncio
from typing import Any

import pytest

from lxdpy.drivers.base import TemplateSource
from lxdpy.drivers.templates import TemplateWorkers
from lxdpy.errors import InvalidRequestError

CONTEXT: dict[str, Any] = {"trigger": "create", "instance": {"name": "web"}, "config": {"user.x": "y"}, "devices": {}}


def source(text: str, **properties: str) -> TemplateSource:
    return TemplateSource("/etc/x", "x.tpl", text, properties)


def render(*sources: TemplateSource) -> tuple[str, ...]:
    async def body() -> tuple[str, ...]:
        workers = TemplateWorkers()
        try:
            return await workers.render(sources, CONTEXT)
        finally:
            await workers.close()

    return asyncio.run(body())


def test_renders_in_order() -> None:
    texts = render(
        source("{{ instance.name }} {{ path }} {{ properties.a }}", a="b"), source('{{ config_get("user.x") }}')
    )
    assert texts == ("web /etc/x b", "y")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% if %}", r'Cannot render template "x\.tpl" for /etc/x: line 1: Expected an expression'),
        ("{% set x = 'a' * 10 ** 9 %}", "more than 256 MB of memory"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "nested too deep"),
        ("{% for a in 'x' * 9999 %}{{ 'x' * 9999 }}{% endfor %}", "longer than"),
        ("".join(f"{{% for {name} in 'x' * 9999 %}}" for name in "abc") + "{% endfor %}" * 3, r"x\.tpl.*too long"),
    ],
    ids=["syntax", "memory", "depth", "length", "time"],
)
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        render(source(text))


def test_the_next_one_is_served_after_a_bad_one() -> None:
    async def body() -> None:
        workers = TemplateWorkers()
        try:
            with pytest.raises(InvalidRequestError):
                await workers.render((source("{% set x = 'a' * 10 ** 9 %}"),), CONTEXT)
            assert await workers.render((source("fine"),), CONTEXT) == ("fine",)
        finally:
            await workers.close()

    asyncio.run(body())
