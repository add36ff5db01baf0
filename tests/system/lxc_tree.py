"""Which commands LXD's client has, by its own help."""

import re
import subprocess
from collections.abc import Iterator, Mapping

_NO_COMMANDS = ("help", "completion")


def commands(environment: Mapping[str, str], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something, as the words that call it: ("image", "alias", "list")."""
    # Only at the top it hides some.
    ask = (*path, "--help") if path else ("help", "--all")
    text = subprocess.run(
        ("lxc", *ask), capture_output=True, text=True, env=dict(environment), timeout=30, check=True
    ).stdout
    match = re.search(r"^Available Commands:\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    names = [line.split()[0] for line in match[1].splitlines() if line.strip()] if match else []
    names = [name for name in names if name not in _NO_COMMANDS]
    if not names and path:
        yield path
    for name in names:
        yield from commands(environment, (*path, name))
