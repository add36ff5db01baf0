"""Runs the examples of a page as they are written.

A block is run when the line above it is `<!-- run -->`:

    <!-- run -->
    ```sh
    curl --unix-socket "$SOCKET" http://lxdpy/1.0
    ```

All blocks of a page share one directory and nothing else; each must end with exit code 0.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MARK = "<!-- run -->"
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Example:
    """One block: its first line's number, and its text."""

    line: int
    script: str


def examples(page: str) -> list[Example]:
    """The marked blocks of a page. Raises ValueError for a mark without a block, and for a block without an end."""
    found = []
    lines = page.splitlines()
    for number, line in enumerate(lines):
        if line.strip() != MARK:
            continue
        if lines[number + 1 : number + 2] != ["```sh"]:
            raise ValueError(f"line {number + 1}: {MARK} stands above no ```sh block")
        start = number + 2
        try:
            end = lines.index("```", start)
        except ValueError:
            raise ValueError(f"line {number + 2}: the block has no end") from None
        found.append(Example(start + 1, "\n".join(lines[start:end]) + "\n"))
    return found


def run_examples(page: Path, directory: Path, environment: Mapping[str, str]) -> None:
    """Run a page's examples in order, in `directory`. Raises AssertionError with the block and what it printed."""
    for example in examples(page.read_text(encoding="utf-8")):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", example.script],
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, (
            f"{page.name}:{example.line} ended with {done.returncode}\n{example.script}\n{done.stdout}"
        )
