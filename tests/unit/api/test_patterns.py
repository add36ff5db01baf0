"""Values of filters: regular expressions that can't blow up."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdpy.api.patterns import compile_pattern
from lxdpy.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("web", "WEB", "web1"),
        ("c.*", "c12", "d"),
        ("c[12]", "C2", "c3"),
        ("^c1$", "c1", "c11"),
        ("(^c1$|^c1.*)", "c1x", "c2"),
        ("a|b", "b", "ab"),
        ("a?b+", "bbb", "a"),
        (r"1\.0", "1.0", "1x0"),
        (r"\d+", "007", ""),
        ("[^a]", "b", "a"),
        (".*", "", None),
        ("", "", "x"),
        ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0"),
    ],
)
def test_whole_text_without_case(pattern: str, yes: str, no: str | None) -> None:
    matches = compile_pattern(pattern)
    assert matches(yes)
    assert no is None or not matches(no)


@pytest.mark.parametrize("pattern", ["*a", "a**", "(a)(b)", "a{2}", "[a", "a(b", "[z-a]", "\\"])
def test_what_is_not_understood_is_said(pattern: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid filter"):
        compile_pattern(pattern)


def test_no_pattern_takes_for_ever() -> None:
    assert not compile_pattern("(" + "a*" * 40 + "b)")("a" * 2000)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", ".", "[ab]", "[^a]"]), st.sampled_from(["", "?", "*", "+"])), max_size=5
    ),
    st.text(alphabet="abc", max_size=6),
)
def test_it_agrees_with_re(parts: list[tuple[str, str]], text: str) -> None:
    pattern = "".join(atom + quantifier for atom, quantifier in parts)
    assert compile_pattern(pattern)(text) == bool(re.fullmatch(pattern, text, re.IGNORECASE))


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_ :/@", max_size=10))
def test_plain_words_are_themselves(text: str) -> None:
    assert compile_pattern(text)(text)
