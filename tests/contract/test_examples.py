"""The runner of examples, and that every example of the guide is one that it runs."""

from pathlib import Path

import pytest

from tests.contract.examples import Example, examples, run_examples

GUIDE = Path(__file__).parents[2] / "api" / "rest-api.md"


def test_every_shell_block_of_the_guide_is_run() -> None:
    page = GUIDE.read_text(encoding="utf-8")
    assert len(examples(page)) == page.count("```sh\n")


def test_examples_of_a_page() -> None:
    page = "text\n\n<!-- run -->\n```sh\none\ntwo\n```\n\n```sh\nnot run\n```\n"
    assert examples(page) == [Example(5, "one\ntwo\n")]


@pytest.mark.parametrize("page", ["<!-- run -->\ntext\n", "<!-- run -->", "<!-- run -->\n```sh\necho\n"])
def test_marks_that_mean_nothing(page: str) -> None:
    with pytest.raises(ValueError, match="line"):
        examples(page)


def test_running(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '<!-- run -->\n```sh\necho "$SOCKET" >file\n```\n<!-- run -->\n```sh\ngrep -x /a/socket file\n```\n'
    )
    run_examples(page, tmp_path, {"SOCKET": "/a/socket"})
    assert (tmp_path / "file").read_text() == "/a/socket\n"


def test_a_failure_shows_the_block_and_what_it_printed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n```sh\necho seen; false | cat; echo not\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:3 ended with 1(.|\n)*\nseen\n"):
        run_examples(page, tmp_path, {})
