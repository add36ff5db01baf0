"""WWW-Authenticate as registries really write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.drivers.registry.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            'Bearer realm="https://a.example/token",service="faulty, registry",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a.example/token", "service": "faulty, registry"})],
        ),
        ('bEARER REALM="x" , Service=y', [("bearer", {"realm": "x", "service": "y"})]),
        ('Basic realm="a", Bearer realm="b",service="c"', [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        (r'Basic realm="say \"hi\", \\"', [("basic", {"realm": 'say "hi", \\'})]),
        ('Basic realm = "spaced"', [("basic", {"realm": "spaced"})]),
        ("Basic", [("basic", {})]),
        (', ,Basic realm=""', [("basic", {"realm": ""})]),
        ('Basic realm="unfinished', [("basic", {})]),
        ("", []),
    ],
)
def test_parse(value: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    challenges = parse([value])
    assert [one.scheme for one in challenges][: len(expected)] == [scheme for scheme, _ in expected]
    for one, (_, parameters) in zip(challenges, expected, strict=False):
        assert parameters.items() <= one.parameters.items()


def test_several_headers() -> None:
    assert parse(["Basic realm=a", "Bearer realm=b"]) == (
        Challenge("basic", {"realm": "a"}),
        Challenge("bearer", {"realm": "b"}),
    )


quoted = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(st.lists(st.tuples(st.sampled_from(["Basic", "Bearer", "Digest"]), quoted, quoted), max_size=3))
def test_what_is_quoted_comes_back(challenges: list[tuple[str, str, str]]) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    value = ", ".join(f"{scheme} realm={quote(a)},scope={quote(b)}" for scheme, a, b in challenges)
    assert parse([value]) == tuple(Challenge(scheme.lower(), {"realm": a, "scope": b}) for scheme, a, b in challenges)


@given(st.text())
def test_nothing_raises(value: str) -> None:
    parse([value])
